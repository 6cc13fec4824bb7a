// Short notes at the edge of the page: what was done, with a way to undo it, or what did not work.
import { asProblem, type Problem } from "../api/problem";
import { Store } from "./store";

export interface Toast {
  id: number;
  text: string;
  problem?: Problem;
  undo?: () => void | Promise<void>;
}

/** Long enough to read, and to reach Undo by keyboard. */
export const SHOWN_MS = 8000;
const SHOWN_MAX = 4;

export const toasts = new Store<Toast[]>([]);
let next = 1;

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((toast) => toast.id !== id);
}

function add(toast: Omit<Toast, "id">): void {
  const id = next++;
  toasts.value = [...toasts.value, { id, ...toast }].slice(-SHOWN_MAX);
}

export function say(text: string, undo?: () => void | Promise<void>): void {
  add(undo ? { text, undo } : { text });
}

export function complain(error: unknown): void {
  const problem = asProblem(error);
  add({ text: problem.message, problem });
}

/** Does something and complains when it fails; answers whether it worked. */
export async function attempt(work: () => Promise<unknown>, done?: string): Promise<boolean> {
  try {
    await work();
    if (done) say(done);
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}
