// Who is signed in, and what they may do. Read again when the page comes back to the front and after every refusal,
// so that a change of roles shows in a page that is open.
import { api, listenForRefusals } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Me, SignInMethods } from "../api/types";
import { forget } from "./storage";
import { Store } from "./store";

export interface SessionState {
  known: boolean;
  me: Me | null;
  problem: Problem | null;
}

/** Not asked more often than this, however many requests are refused. */
const AGAIN_AFTER_MS = 1000;

export const session = new Store<SessionState>({ known: false, me: null, problem: null });

let reading: Promise<void> | undefined;
let readAt = 0;

export function can(action: string): boolean {
  return session.value.me?.permissions.includes(action) ?? false;
}

export function signedIn(me: Me): void {
  session.value = { known: true, me, problem: null };
}

export function readMe(): Promise<void> {
  reading ??= read().finally(() => {
    reading = undefined;
    readAt = Date.now();
  });
  return reading;
}

async function read(): Promise<void> {
  try {
    const me = await api.get<Me>("/me");
    // The same answer draws nothing again.
    if (JSON.stringify(me) === JSON.stringify(session.value.me)) return;
    signedIn(me);
  } catch (error) {
    const problem = asProblem(error);
    if (problem.status === 401) session.value = { known: true, me: null, problem: null };
    // A server that is away for a moment signs nobody out.
    else if (!session.value.me) session.value = { known: true, me: null, problem };
  }
}

function readAgain(): void {
  if (Date.now() - readAt > AGAIN_AFTER_MS) void readMe();
}

export function startSession(): Promise<void> {
  listenForRefusals((status) => {
    if (status === 401 && session.value.me) session.value = { known: true, me: null, problem: null };
    else if (status === 403) readAgain();
  });
  addEventListener("focus", readAgain);
  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") readAgain();
  });
  return readMe();
}

export async function signOut(): Promise<void> {
  const { oidc } = await api.get<SignInMethods>("/auth/methods");
  let provider: string | null = null;
  if (oidc) provider = (await api.post<{ location: string | null }>("/auth/oidc/logout")).location;
  else await api.post("/auth/logout");
  forget("draft.");
  session.value = { known: true, me: null, problem: null };
  // Where somebody came from the identity provider, their stay there ends too.
  if (provider) window.location.assign(provider);
}
