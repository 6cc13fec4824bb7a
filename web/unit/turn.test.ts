import { expect, test } from "vitest";
import type { Message, Run, RunFrame } from "../src/api/types";
import { leafBelow, siblings } from "../src/chat/branches";
import { apply, newTurn, turnsOf } from "../src/chat/turn";

const frame = (type: string, payload: Record<string, unknown>): RunFrame => ({ sequence: 1, type, id: "", timestamp: "", payload });

test("a model call that is made again replaces what it had said", () => {
  const turn = newTurn("run", "hello", "", "running");
  apply(turn, frame("chat.delta", { response_id: "a", delta: "half an ans" }));
  apply(turn, frame("chat.reset", { response_id: "a" }));
  apply(turn, frame("chat.delta", { response_id: "a", delta: "whole" }));
  apply(turn, frame("run.done", { status: "completed", usage: { input_tokens: 1, output_tokens: 2 }, cost: 0.000005 }));
  expect(turn.parts).toEqual([{ kind: "text", id: "a", text: "whole", done: true }]);
  expect([turn.state, turn.costMicros]).toEqual(["completed", 5]);
});

test("a call that waits for somebody shows what was decided, with the arguments as edited", () => {
  const turn = newTurn("run", "write", "", "running");
  apply(turn, frame("tool.start", { call_id: "c", tool: "file_write", arguments: { path: "a" } }));
  apply(turn, frame("approval.requested", { approval_id: "p", call_id: "c", tool: "file_write", arguments: { path: "a" }, arguments_hash: "h", expires_at: "t" }));
  expect(turn.state).toBe("waiting");
  apply(turn, frame("approval.decided", { approval_id: "p", call_id: "c", decision: "approve", decided_by: "u", reason: "", arguments: { path: "b" } }));
  apply(turn, frame("tool.result", { call_id: "c", status: "success", output: "ok", duration_ms: 3 }));
  expect(turn.state).toBe("running");
  expect(turn.parts).toMatchObject([{ tool: "file_write", input: { path: "b" }, output: "ok", approval: { state: "approved" } }]);
});

test("messages give the same parts when events are gone", () => {
  const message = (role: Message["role"], content: string, more: Partial<Message> = {}): Message => ({ id: role + content, run_id: "r", role, content, created_at: "t", ...more });
  const turns = turnsOf(
    [
      message("user", "ask"),
      message("assistant", "", { tool_calls: [{ id: "1", name: "timestamp", arguments: "{}" }] }),
      message("tool", "now", { tool_call_id: "1" }),
      message("assistant", "done"),
    ],
    [],
  );
  expect(turns).toHaveLength(1);
  expect(turns[0]?.question).toBe("ask");
  expect(turns[0]?.parts).toEqual([
    { kind: "tool", id: "1", tool: "timestamp", input: "{}", output: "now" },
    { kind: "text", id: "assistantdone", text: "done", done: true },
  ]);
});

test("a run that began after the runs were read is followed, an old one that is not listed is over", () => {
  const asked = (run: string): Message => ({ id: run, run_id: run, role: "user", content: "ask", created_at: "t" });
  const known = { id: "2", state: "completed" } as Run;
  expect(turnsOf([asked("1"), asked("2"), asked("3")], [known]).map(({ run, state }) => [run, state])).toEqual([
    ["1", "completed"],
    ["2", "completed"],
    ["3", "running"],
  ]);
});

test("a branch is switched to at its newest end", () => {
  const run = (id: string, parent: string | null): Run => ({ id, parent_run_id: parent, created_at: id }) as Run;
  const runs = [run("1", null), run("2", "1"), run("3", "1"), run("4", "2"), run("5", "2")];
  expect(siblings(runs, "3")).toEqual({ runs: ["2", "3"], at: 1 });
  expect(siblings(runs, "1")).toBeUndefined();
  expect(leafBelow(runs, "2")).toBe("5");
});
