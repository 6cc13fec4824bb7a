// Names of users by their ids, for pages that show who did something. Who may not read users sees ids.
import { api } from "../api/client";
import type { User } from "../api/types";
import { can, session } from "./session";
import { Store } from "./store";

export const names = new Store<Map<string, string>>(new Map());
let read = false;

export async function readNames(): Promise<void> {
  if (read || !can("user:read")) return;
  read = true;
  try {
    const users = await api.all<User>("/users");
    names.value = new Map(users.map((user) => [user.id, user.name || user.email]));
  } catch {
    read = false;
  }
}

export function nameOf(id: string | null | undefined): string {
  if (!id) return "—";
  const me = session.value.me;
  if (id === me?.user_id) return me.name || me.email;
  return names.value.get(id) ?? id.slice(0, 13);
}
