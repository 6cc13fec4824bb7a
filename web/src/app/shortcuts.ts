// Keys that work everywhere but in a field: single letters, and `g` followed by one.
export interface Shortcut {
  keys: string;
  label: string;
  run: () => void;
}

/** How long `g` waits for its letter. */
const SEQUENCE_MS = 1200;

let shortcuts: Shortcut[] = [];
let pending = "";
let pendingUntil = 0;

export function setShortcuts(list: Shortcut[]): void {
  shortcuts = list;
}

export function allShortcuts(): Shortcut[] {
  return shortcuts;
}

function typing(event: KeyboardEvent): boolean {
  return event.composedPath().some((node) => {
    if (!(node instanceof HTMLElement)) return false;
    return node.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(node.tagName);
  });
}

export function startShortcuts(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.metaKey || event.ctrlKey || event.altKey || typing(event)) return;
    if (document.querySelector("soma-app")?.shadowRoot?.querySelector("[data-modal]")) return;
    const now = Date.now();
    const sequence = pending && now < pendingUntil ? `${pending} ${event.key}` : event.key;
    pending = "";
    const found = shortcuts.find((shortcut) => shortcut.keys === sequence);
    if (found) {
      event.preventDefault();
      found.run();
    } else if (event.key === "g") {
      pending = "g";
      pendingUntil = now + SEQUENCE_MS;
    }
  });
}
