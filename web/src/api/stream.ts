// A run's events until `run.done`: when the connection breaks it comes back and goes on after the last event seen.
import { send } from "./client";
import { Problem } from "./problem";
import { EventParser } from "./sse";
import type { RunFrame } from "./types";

const WAIT_FIRST_MS = 400;
const WAIT_MAX_MS = 10_000;
/** The server sends a comment every 15 s; a connection silent for longer than this is dead. */
const SILENCE_MAX_MS = 40_000;

export type Connection = "live" | "resuming" | "ended";

export interface StreamHandlers {
  frame(frame: RunFrame): void;
  connection(state: Connection): void;
  failed(problem: Problem): void;
}

/** Follows a run. Answers a function that stops it. */
export function followRun(run: string, handlers: StreamHandlers, after = 0): () => void {
  const stopped = new AbortController();
  void follow(run, handlers, after, stopped.signal);
  return () => stopped.abort();
}

async function follow(run: string, handlers: StreamHandlers, after: number, stopped: AbortSignal): Promise<void> {
  let seen = after;
  let wait = WAIT_FIRST_MS;
  while (!stopped.aborted) {
    try {
      const done = await readOnce(run, seen, stopped, (frame) => {
        // Only what was read counts as progress: a connection that opens and dies must not be asked in a tight loop.
        wait = WAIT_FIRST_MS;
        if (frame.sequence <= seen) return;
        seen = frame.sequence;
        handlers.frame(frame);
      }, () => handlers.connection("live"));
      if (stopped.aborted) return;
      if (done) {
        handlers.connection("ended");
        return;
      }
    } catch (error) {
      if (stopped.aborted) return;
      // Refused for good: asking again would get the same.
      if (error instanceof Problem && error.status >= 400 && error.status < 500 && error.status !== 429) {
        handlers.failed(error);
        return;
      }
    }
    handlers.connection("resuming");
    await pause(wait * (0.75 + Math.random() / 2), stopped);
    wait = Math.min(wait * 2, WAIT_MAX_MS);
  }
}

/** Reads one connection to its end; true when the run is over. */
async function readOnce(
  run: string,
  after: number,
  stopped: AbortSignal,
  onFrame: (frame: RunFrame) => void,
  onOpen: () => void,
): Promise<boolean> {
  const connection = new AbortController();
  const abort = () => connection.abort();
  stopped.addEventListener("abort", abort);
  let watchdog = setTimeout(abort, SILENCE_MAX_MS);
  try {
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (after > 0) headers["last-event-id"] = String(after);
    const response = await send(`/api/v2/runs/${run}/events`, { headers, signal: connection.signal });
    onOpen();
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    if (!reader) return false;
    const parser = new EventParser();
    for (;;) {
      const { value, done } = await reader.read();
      // A stream that ends without `run.done` was cut off.
      if (done) return false;
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, SILENCE_MAX_MS);
      for (const event of parser.feed(value)) {
        const frame = readFrame(event.id, event.data);
        if (!frame) continue;
        onFrame(frame);
        if (frame.type === "run.done") return true;
      }
    }
  } finally {
    clearTimeout(watchdog);
    stopped.removeEventListener("abort", abort);
    connection.abort();
  }
}

function readFrame(id: string, data: string): RunFrame | undefined {
  try {
    const frame = JSON.parse(data) as RunFrame;
    return { ...frame, sequence: Number(id) || 0 };
  } catch {
    return undefined;
  }
}

/** Waits, but not while the browser says that there is no network, and no longer once it says there is. */
function pause(ms: number, stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      clearTimeout(timer);
      removeEventListener("online", finish);
      stopped.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, ms);
    addEventListener("online", finish);
    stopped.addEventListener("abort", finish);
  });
}

/** All events of a run that is over, in one read. */
export async function pastEvents(run: string): Promise<RunFrame[]> {
  const response = await send(`/api/v2/runs/${run}/events`, { headers: { accept: "text/event-stream" } });
  const parser = new EventParser();
  return parser
    .feed(await response.text())
    .map((event) => readFrame(event.id, event.data))
    .filter((frame): frame is RunFrame => frame !== undefined);
}
