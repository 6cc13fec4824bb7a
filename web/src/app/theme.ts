// Light, dark, or as the system has it. `public/theme.js` applies the choice before the first paint.
import { remember, remembered } from "./storage";
import { Store } from "./store";

export type Theme = "system" | "light" | "dark";

function read(): Theme {
  const kept = remembered("theme");
  return kept === "light" || kept === "dark" ? kept : "system";
}

export const theme = new Store<Theme>(read());

export function setTheme(choice: Theme): void {
  remember("theme", choice === "system" ? "" : choice);
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
  theme.value = choice;
}

export function nextTheme(): void {
  const order: Theme[] = ["system", "light", "dark"];
  setTheme(order[(order.indexOf(theme.value) + 1) % order.length] ?? "system");
}
