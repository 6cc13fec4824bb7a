// What this browser keeps of somebody's preferences and drafts. Where storage is refused, nothing is kept.

const PREFIX = "soma.";

export function remembered(name: string): string {
  try {
    return localStorage.getItem(PREFIX + name) ?? "";
  } catch {
    return "";
  }
}

export function remember(name: string, value: string): void {
  try {
    if (value) localStorage.setItem(PREFIX + name, value);
    else localStorage.removeItem(PREFIX + name);
  } catch {
    // Full, or refused: the page works without.
  }
}

/** Forgets all that begins with this name: drafts, when somebody signs out. */
export function forget(prefix: string): void {
  try {
    for (const key of Object.keys(localStorage)) {
      if (key.startsWith(PREFIX + prefix)) localStorage.removeItem(key);
    }
  } catch {
    // As above.
  }
}
