// A turn as the page shows it, made from a run's events or, when those are gone, from its messages. It fetches nothing.
import type { Effect, Message, Run, RunFrame, RunState, Usage } from "../api/types";

export interface Decision {
  effect: Effect;
  reason: string;
  revision: string;
}

export interface ApprovalView {
  id: string;
  arguments: unknown;
  hash: string;
  expiresAt: string;
  state: "pending" | "approved" | "rejected" | "expired" | "cancelled";
  decidedBy: string;
  reason: string;
}

export interface ToolPart {
  kind: "tool";
  id: string;
  tool: string;
  input: unknown;
  output?: string;
  status?: string;
  durationMs?: number;
  decision?: Decision;
  approval?: ApprovalView;
}

export interface TextPart {
  kind: "text";
  /** The model call that says it. */
  id: string;
  text: string;
  done: boolean;
}

export type Part = TextPart | ToolPart;

export interface Turn {
  run: string;
  /** What was asked. */
  question: string;
  askedAt: string;
  parts: Part[];
  state: RunState;
  error?: { code: string; message: string };
  usage?: Usage;
  costMicros?: number;
  contextCut?: boolean;
  /** Its events were read, so that durations and decisions are known. */
  detailed: boolean;
  /** The text was begun again after a crash. */
  reset: boolean;
}

export const FINAL: readonly RunState[] = ["completed", "failed", "cancelled"];

export function over(turn: Turn): boolean {
  return FINAL.includes(turn.state);
}

export function newTurn(run: string, question: string, askedAt: string, state: RunState): Turn {
  return { run, question, askedAt, parts: [], state, detailed: false, reset: false };
}

/** The turns of a branch, from its messages in order, which were read after the runs. */
export function turnsOf(messages: Message[], runs: Run[]): Turn[] {
  const byRun = new Map<string, Turn>();
  // Ids are in the order in which they were made: a run after the newest known one has begun since, and is followed.
  const newest = runs.reduce((id, run) => (run.id > id ? run.id : id), "");
  const known = new Map(runs.map((run) => [run.id, run]));
  for (const message of messages) {
    let turn = byRun.get(message.run_id);
    if (!turn) {
      turn = newTurn(message.run_id, "", message.created_at, known.get(message.run_id)?.state ?? (message.run_id > newest ? "running" : "completed"));
      byRun.set(message.run_id, turn);
    }
    addMessage(turn, message);
  }
  for (const turn of byRun.values()) {
    const run = known.get(turn.run);
    if (run) noteRun(turn, run);
  }
  return [...byRun.values()];
}

function addMessage(turn: Turn, message: Message): void {
  if (message.role === "user") {
    turn.question = turn.question ? `${turn.question}\n\n${message.content}` : message.content;
    turn.askedAt = message.created_at;
  } else if (message.role === "assistant") {
    if (message.content) turn.parts.push({ kind: "text", id: message.id, text: message.content, done: true });
    for (const call of message.tool_calls ?? []) {
      turn.parts.push({ kind: "tool", id: call.id, tool: call.name, input: call.arguments });
    }
  } else if (message.role === "tool") {
    const call = turn.parts.find(
      (part): part is ToolPart => part.kind === "tool" && part.id === message.tool_call_id && part.output === undefined,
    );
    if (call) call.output = message.content;
  }
}

export function noteRun(turn: Turn, run: Run): void {
  turn.state = run.state;
  turn.error = run.error;
  turn.usage = run.usage;
  turn.costMicros = run.cost_micros;
  turn.contextCut = run.context_cut;
}

/** The same turn with its parts made from its events: all of them, from the first. */
export function detailed(turn: Turn, frames: RunFrame[]): Turn {
  const fresh: Turn = { ...turn, parts: [], detailed: true };
  for (const frame of frames) apply(fresh, frame);
  // Events that are no longer kept leave the messages as they are.
  const whole = frames.some((frame) => frame.type === "run.done") && fresh.parts.length >= turn.parts.length;
  return whole ? fresh : { ...turn, detailed: true };
}

const text = (value: unknown): string => (typeof value === "string" ? value : "");

/** Adds one event to a turn. */
export function apply(turn: Turn, frame: RunFrame): void {
  const payload = frame.payload ?? {};
  switch (frame.type) {
    case "chat.delta":
      if (turn.state === "queued") turn.state = "running";
      textPart(turn, text(payload.response_id)).text += text(payload.delta);
      break;
    case "chat.reset":
      turn.parts = turn.parts.filter((part) => part.kind !== "text" || part.id !== payload.response_id);
      turn.reset = true;
      break;
    case "chat.done": {
      const part = textPart(turn, text(payload.response_id));
      part.text = text(payload.content);
      part.done = true;
      break;
    }
    case "tool.start": {
      if (turn.state === "queued") turn.state = "running";
      const part = toolPart(turn, payload);
      if (payload.arguments !== undefined) part.input = payload.arguments;
      break;
    }
    case "policy.decision":
      toolPart(turn, payload).decision = {
        effect: payload.effect as Effect,
        reason: text(payload.reason),
        revision: text(payload.revision),
      };
      break;
    case "approval.requested":
      turn.state = "waiting";
      toolPart(turn, payload).approval = {
        id: text(payload.approval_id),
        arguments: payload.arguments,
        hash: text(payload.arguments_hash),
        expiresAt: text(payload.expires_at),
        state: "pending",
        decidedBy: "",
        reason: "",
      };
      break;
    case "approval.decided":
      decided(turn, payload);
      break;
    case "tool.result": {
      const part = toolPart(turn, payload);
      part.status = text(payload.status);
      part.output = text(payload.output);
      part.durationMs = Number(payload.duration_ms ?? 0);
      break;
    }
    case "error":
      turn.error = { code: text(payload.code), message: text(payload.message) };
      break;
    case "run.done":
      finish(turn, payload);
      break;
    default:
      // A newer server's event: it does no harm here.
      break;
  }
}

const STATES: Record<string, ApprovalView["state"]> = {
  approve: "approved",
  approved: "approved",
  reject: "rejected",
  rejected: "rejected",
  expire: "expired",
  expired: "expired",
  cancelled: "cancelled",
};

function decided(turn: Turn, payload: Record<string, unknown>): void {
  const part = toolPart(turn, payload);
  if (turn.state === "waiting") turn.state = "running";
  if (!part.approval) return;
  part.approval = {
    ...part.approval,
    state: STATES[text(payload.decision)] ?? "rejected",
    decidedBy: text(payload.decided_by),
    reason: text(payload.reason),
  };
  if (payload.arguments !== undefined && payload.arguments !== null) part.input = payload.arguments;
}

function finish(turn: Turn, payload: Record<string, unknown>): void {
  turn.state = payload.status as RunState;
  turn.usage = payload.usage as Usage;
  turn.costMicros = Math.round(Number(payload.cost ?? 0) * 1_000_000);
  for (const part of turn.parts) {
    if (part.kind === "text") part.done = true;
    else if (part.approval?.state === "pending") part.approval = { ...part.approval, state: "cancelled" };
  }
}

function textPart(turn: Turn, response: string): TextPart {
  const found = turn.parts.find((part): part is TextPart => part.kind === "text" && part.id === response);
  if (found) return found;
  // Another model call speaks: what was said before is whole.
  for (const part of turn.parts) if (part.kind === "text") part.done = true;
  const part: TextPart = { kind: "text", id: response, text: "", done: false };
  turn.parts.push(part);
  return part;
}

function toolPart(turn: Turn, payload: Record<string, unknown>): ToolPart {
  const id = text(payload.call_id);
  const found = turn.parts.find((part): part is ToolPart => part.kind === "tool" && part.id === id);
  if (found) {
    if (!found.tool) found.tool = text(payload.tool);
    return found;
  }
  for (const part of turn.parts) if (part.kind === "text") part.done = true;
  const part: ToolPart = { kind: "tool", id, tool: text(payload.tool), input: payload.arguments };
  turn.parts.push(part);
  return part;
}
