// The list of conversations: read page by page, searched, and kept right while titles and states change.
import { api, idempotencyKey } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Conversation, Page, RunState, SearchHit } from "../api/types";
import { say } from "../app/toasts";
import { Store } from "../app/store";

export interface ListState {
  items: Conversation[];
  cursor: string | null;
  archived: boolean;
  loading: boolean;
  problem: Problem | null;
}

const PAGE = 40;

export const list = new Store<ListState>({ items: [], cursor: null, archived: false, loading: false, problem: null });

function change(part: Partial<ListState>): void {
  list.value = { ...list.value, ...part };
}

export async function readList(archived = list.value.archived): Promise<void> {
  change({ loading: true, problem: null, archived, ...(archived !== list.value.archived ? { items: [] } : {}) });
  try {
    const page = await read(archived);
    if (list.value.archived === archived) change({ items: page.items, cursor: page.next_cursor ?? null });
  } catch (error) {
    change({ problem: asProblem(error) });
  } finally {
    change({ loading: false });
  }
}

export async function readMore(): Promise<void> {
  const { cursor, archived, loading } = list.value;
  if (!cursor || loading) return;
  change({ loading: true });
  try {
    const page = await read(archived, cursor);
    const known = new Set(list.value.items.map((item) => item.id));
    const fresh = page.items.filter((item) => !known.has(item.id));
    change({ items: [...list.value.items, ...fresh], cursor: page.next_cursor ?? null });
  } catch (error) {
    change({ problem: asProblem(error) });
  } finally {
    change({ loading: false });
  }
}

function read(archived: boolean, cursor?: string): Promise<Page<Conversation>> {
  return api.get("/conversations", { limit: PAGE, archived, cursor });
}

export async function search(words: string): Promise<SearchHit[]> {
  const page = await api.get<Page<SearchHit>>("/conversations/search", { q: words, limit: 30 });
  return page.items;
}

export async function create(agent: string): Promise<Conversation> {
  const made = await api.post<Conversation>("/conversations", { agent }, idempotencyKey());
  if (!list.value.archived) change({ items: [made, ...list.value.items] });
  return made;
}

/** Notes what is new about a conversation, if it is in the list. */
export function note(id: string, what: { title?: string; last_run_state?: RunState; updated_at?: string }): void {
  const items = list.value.items.map((item) => (item.id === id ? { ...item, ...what } : item));
  const at = items.findIndex((item) => item.id === id);
  // What was just written in comes to the top.
  if (what.updated_at && at > 0) items.unshift(...items.splice(at, 1));
  change({ items });
}

function without(id: string): void {
  change({ items: list.value.items.filter((item) => item.id !== id) });
}

export async function rename(id: string, title: string): Promise<void> {
  const before = list.value.items.find((item) => item.id === id)?.title ?? "";
  note(id, { title });
  try {
    await api.patch(`/conversations/${id}`, { title });
  } catch (error) {
    note(id, { title: before });
    throw error;
  }
}

export async function archive(id: string, archived: boolean): Promise<void> {
  await api.patch(`/conversations/${id}`, { archived });
  without(id);
  say(archived ? "The conversation is in the archive." : "The conversation is back in the list.", async () => {
    await api.patch(`/conversations/${id}`, { archived: !archived });
    await readList();
  });
}

export async function remove(id: string): Promise<void> {
  await api.delete(`/conversations/${id}`);
  without(id);
  say("The conversation was deleted.", async () => {
    await api.post(`/conversations/${id}/restore`);
    await readList();
  });
}
