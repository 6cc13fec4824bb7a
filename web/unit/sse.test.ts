import { expect, test } from "vitest";
import { EventParser } from "../src/api/sse";

const STREAM = ": hello\r\n\r\nid: 7\nevent: chat.delta\ndata: {\"a\":\ndata: 1}\n\nid: 8\rdata:x\r\r\nretry: 5\n\ndata\n\n";

test("a stream is read the same however it is cut into pieces", () => {
  const whole = new EventParser().feed(STREAM);
  expect(whole).toEqual([
    { id: "7", event: "chat.delta", data: '{"a":\n1}' },
    { id: "8", event: "message", data: "x" },
    { id: "8", event: "message", data: "" },
  ]);
  for (let size = 1; size < STREAM.length; size += 1) {
    const parser = new EventParser();
    const pieces = [];
    for (let at = 0; at < STREAM.length; at += size) pieces.push(...parser.feed(STREAM.slice(at, at + size)));
    expect(pieces).toEqual(whole);
  }
});

test("an event that was cut off is not given", () => {
  expect(new EventParser().feed("id: 1\ndata: half")).toEqual([]);
});
