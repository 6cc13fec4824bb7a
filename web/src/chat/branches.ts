// Branches of a conversation: runs form a tree by `parent_run_id`, and a branch is the way from a run to the root.
import type { Run } from "../api/types";

export interface Siblings {
  /** Runs that answer the same point of the conversation, oldest first. */
  runs: string[];
  /** Which of them is shown, from 0. */
  at: number;
}

const parentOf = (run: Run): string => run.parent_run_id ?? "";
const older = (a: Run, b: Run): number =>
  a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a.id < b.id ? -1 : 1;

/** The runs beside this one; nothing when it is the only one. */
export function siblings(runs: Run[], id: string): Siblings | undefined {
  const run = runs.find((run) => run.id === id);
  // A server without branches does not name parents.
  if (!run || run.parent_run_id === undefined) return undefined;
  const beside = runs.filter((other) => parentOf(other) === parentOf(run)).sort(older);
  if (beside.length < 2) return undefined;
  return { runs: beside.map((other) => other.id), at: beside.findIndex((other) => other.id === id) };
}

/** The newest run at or below this one: the end of the branch that is shown when it is chosen. */
export function leafBelow(runs: Run[], id: string): string {
  let leaf = id;
  for (let depth = 0; depth < runs.length; depth += 1) {
    const next = runs.filter((run) => parentOf(run) === leaf).sort(older).at(-1);
    if (!next) break;
    leaf = next.id;
  }
  return leaf;
}

/** The run before this one in its branch. */
export function parent(runs: Run[], id: string): string | null {
  return runs.find((run) => run.id === id)?.parent_run_id ?? null;
}
