// Light, dark, or as the system has it: what was chosen in this browser, else what the setting `ui_theme` says.
// `public/theme.js` applies the choice before the first paint.
import { api } from "../api/client";
import type { Setting } from "../api/types";
import { remember, remembered } from "./storage";
import { Store } from "./store";

export type Theme = "system" | "light" | "dark";

function read(): Theme {
  const kept = remembered("theme");
  return kept === "light" || kept === "dark" ? kept : "system";
}

export const theme = new Store<Theme>(read());

/** What the settings say, where nothing was chosen here. */
export async function readTheme(): Promise<void> {
  if (remembered("theme")) return;
  try {
    const settings = await api.all<Setting>("/settings", { limit: undefined });
    const found = settings.find(({ key }) => key === "ui_theme")?.value;
    apply(found === "light" || found === "dark" ? found : "system");
  } catch {
    // Then as the system has it.
  }
}

export function setTheme(choice: Theme): void {
  remember("theme", choice);
  apply(choice);
}

function apply(choice: Theme): void {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  theme.value = choice;
}

export function nextTheme(): void {
  const order: Theme[] = ["system", "light", "dark"];
  setTheme(order[(order.indexOf(theme.value) + 1) % order.length] ?? "system");
}
