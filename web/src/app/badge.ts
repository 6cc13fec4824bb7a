// How many approvals wait for somebody who may decide them.
import { api } from "../api/client";
import type { Approval, Page } from "../api/types";
import { can, session } from "./session";
import { Store } from "./store";

const EVERY_MS = 20_000;

export const pendingApprovals = new Store(0);
let counting = false;

/** Counts again: after a decision, or when an approval was asked for in a run that is watched. */
export async function countApprovals(): Promise<void> {
  if (!can("tool:approve") || document.visibilityState !== "visible" || counting) return;
  counting = true;
  try {
    const page = await api.get<Page<Approval>>("/approvals", { state: "pending", limit: 100 });
    pendingApprovals.value = page.items.length;
  } catch {
    // The badge is a convenience: its page says what is wrong.
  } finally {
    counting = false;
  }
}

export function startBadge(): void {
  session.subscribe(() => void countApprovals());
  setInterval(() => void countApprovals(), EVERY_MS);
  document.addEventListener("visibilitychange", () => void countApprovals());
}
