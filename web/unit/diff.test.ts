import { expect, test } from "vitest";
import { diff, folded } from "../src/text/diff";

const marks = { same: " ", added: "+", removed: "-" };
const shown = (before: string, after: string) =>
  diff(before, after).map((line) => marks[line.kind] + line.text);

test("what stayed, went and came is told in order", () => {
  expect(shown("a\nb\nc", "a\nc\nd")).toEqual([" a", "-b", " c", "+d"]);
  expect(shown("", "a")).toEqual(["+a"]);
  expect(shown("a", "")).toEqual(["-a"]);
  expect(shown("a\nb", "a\nb")).toEqual([" a", " b"]);
});

test("either text can be read back from any difference", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) % 2 ** 31) % below;
  for (let round = 0; round < 300; round += 1) {
    const text = () => Array.from({ length: 1 + random(12) }, () => "abcd"[random(4)]).join("\n");
    const [before, after] = [text(), text()];
    const lines = diff(before, after);
    const without = (kind: string) => lines.filter((line) => line.kind !== kind).map((line) => line.text).join("\n");
    expect(without("added")).toBe(before);
    expect(without("removed")).toBe(after);
    for (const line of lines) {
      if (line.old !== undefined) expect(before.split("\n")[line.old - 1]).toBe(line.text);
      if (line.new !== undefined) expect(after.split("\n")[line.new - 1]).toBe(line.text);
    }
  }
});

test("what is far from a change is folded", () => {
  const many = Array.from({ length: 20 }, (_, index) => String(index));
  const lines = folded(diff(many.join("\n"), [...many, "new"].join("\n")), 2);
  expect(lines[0]).toEqual({ kind: "fold", count: 18 });
  expect(lines).toHaveLength(4);
});
