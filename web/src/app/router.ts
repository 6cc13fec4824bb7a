// Addresses of pages, by the browser's history. It knows patterns and parameters, and no page.
import { Store } from "./store";

export interface Location {
  path: string;
  query: URLSearchParams;
  hash: string;
}

export type Parameters = Record<string, string>;

/** What a pattern like `/chat/:id` finds in a path; nothing when it does not fit. */
export function match(pattern: string, path: string): Parameters | undefined {
  const wanted = pattern.split("/").filter(Boolean);
  const given = path.split("/").filter(Boolean);
  if (wanted.length !== given.length) return undefined;
  const found: Parameters = {};
  for (const [index, part] of wanted.entries()) {
    const value = given[index] ?? "";
    if (part.startsWith(":")) {
      try {
        found[part.slice(1)] = decodeURIComponent(value);
      } catch {
        return undefined;
      }
    } else if (part !== value) return undefined;
  }
  return found;
}

/** Only paths of this site: where a sign-in may lead back to. */
export function safeReturn(path: string | null): string {
  if (!path || !path.startsWith("/") || path.startsWith("//") || path.includes("\\")) return "/";
  return path;
}

function read(): Location {
  const { pathname, search, hash } = window.location;
  return { path: pathname, query: new URLSearchParams(search), hash: hash.slice(1) };
}

export const location = new Store<Location>(read());

/** Asked before another page is shown; answers whether it may be. For a form with unsaved changes. */
let guard: (() => boolean) | undefined;

export function setGuard(ask: (() => boolean) | undefined): void {
  guard = ask;
}

export function navigate(to: string, options: { replace?: boolean } = {}): void {
  if (guard && !guard()) return;
  guard = undefined;
  if (options.replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  location.value = read();
}

/** Changes the query of the page that is shown. */
export function setQuery(changes: Record<string, string | undefined>): void {
  const query = new URLSearchParams(window.location.search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  navigate(`${window.location.pathname}${text ? `?${text}` : ""}`, { replace: true });
}

/** Follows links of this site without loading the page again. */
export function startRouter(): void {
  addEventListener("popstate", () => {
    location.value = read();
  });
  addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.composedPath().find((node) => node instanceof HTMLAnchorElement);
    if (!(link instanceof HTMLAnchorElement) || !link.href || link.target || link.hasAttribute("download")) return;
    const url = new URL(link.href);
    const served = /^\/(api|v1|ws|health|metrics)(\/|$)/.test(url.pathname);
    if (url.origin !== window.location.origin || served) return;
    if (url.hash && url.pathname === window.location.pathname && url.search === window.location.search) return;
    event.preventDefault();
    navigate(url.pathname + url.search + url.hash);
  });
}
