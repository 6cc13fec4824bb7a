// The one way to the API: same origin, the session's cookie, JSON in and out, problems as exceptions.
import { offline, problemOf } from "./problem";
import type { Page } from "./types";

export type Query = Record<string, string | number | boolean | null | undefined>;

/** Pages that are read one after the other, before somebody has to ask for more. */
const PAGES_MAX = 20;

type Listener = (status: number) => void;
let onRefusal: Listener = () => {};

/** Told of every 401 and 403: the session has ended, or rights have changed. */
export function listenForRefusals(listener: Listener): void {
  onRefusal = listener;
}

export function address(path: string, query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") parameters.set(name, String(value));
  }
  const text = parameters.toString();
  return `/api/v2${path}${text ? `?${text}` : ""}`;
}

export async function send(url: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw offline();
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    const signIn = url.startsWith("/api/v2/auth/");
    if (!signIn && (response.status === 401 || response.status === 403)) onRefusal(response.status);
    throw problem;
  }
  return response;
}

async function json<T>(method: string, url: string, body?: unknown, headers: Record<string, string> = {}): Promise<T> {
  const init: RequestInit = { method, headers: { accept: "application/json", ...headers } };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { ...init.headers, "content-type": "application/json" };
  }
  const response = await send(url, init);
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

export const api = {
  get: <T>(path: string, query?: Query) => json<T>("GET", address(path, query)),
  post: <T>(path: string, body?: unknown, headers?: Record<string, string>) =>
    json<T>("POST", address(path), body ?? {}, headers),
  put: <T>(path: string, body: unknown) => json<T>("PUT", address(path), body),
  patch: <T>(path: string, body: unknown) => json<T>("PATCH", address(path), body),
  delete: <T = void>(path: string, query?: Query) => json<T>("DELETE", address(path, query)),

  /** Every page of a list, up to a bound. */
  async all<T>(path: string, query: Query = {}): Promise<T[]> {
    const items: T[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const read: Page<T> = await api.get(path, { limit: 200, ...query, cursor });
      if (Array.isArray(read)) return read as T[];
      items.push(...read.items);
      cursor = read.next_cursor ?? undefined;
      if (!cursor) break;
    }
    return items;
  },
};

/** One request, however often it is sent. */
export function idempotencyKey(): Record<string, string> {
  return { "idempotency-key": crypto.randomUUID() };
}
