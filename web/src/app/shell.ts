// The application: decides between sign-in and the pages, and draws what stays around them.
import { LitElement, html, nothing, type PropertyValues } from "lit";
import { customElement, state } from "lit/decorators.js";
import { base, buttons } from "../styles/controls";
import { icon, mark } from "../ui/icon";
import "../ui/problem-note";
import "./nav";
import "./shortcuts-help";
import "./toast-list";
import { startBadge } from "./badge";
import { findPage, GOVERN, WORK, type PageEntry } from "./pages";
import { location, navigate, safeReturn, startRouter } from "./router";
import { can, readMe, session, startSession } from "./session";
import { setShortcuts, startShortcuts } from "./shortcuts";
import { shellStyles } from "./shell-styles";
import { Watch } from "./store";
import { nextTheme, readTheme } from "./theme";
import { attempt } from "./toasts";
import { api } from "../api/client";

@customElement("soma-app")
export class App extends LitElement {
  static override styles = [base, buttons, shellStyles];

  @state() private drawer = false;
  @state() private help = false;
  @state() private loaded: PageEntry | null = null;
  @state() private loadProblem: unknown = null;
  #watch = new Watch(this, location, session);
  #path = "";
  #themeOf = "";

  override connectedCallback(): void {
    super.connectedCallback();
    startRouter();
    startShortcuts();
    startBadge();
    setShortcuts([
      ...[...WORK, ...GOVERN].map(({ key, label, path, needs }) => ({
        keys: `g ${key}`,
        label: `Go to ${label}`,
        run: () => {
          if (needs.some(can)) navigate(path);
        },
      })),
      { keys: "n", label: "New conversation", run: () => navigate("/chat") },
      { keys: "/", label: "Search conversations", run: () => this.#announce("soma-search") },
      { keys: "t", label: "Switch between light, dark and the system's theme", run: nextTheme },
      { keys: "?", label: "Show this list", run: () => (this.help = !this.help) },
    ]);
    void startSession();
  }

  protected override willUpdate(_changed: PropertyValues): void {
    void this.#watch;
    const { path } = location.value;
    if (path !== this.#path) {
      this.#path = path;
      this.drawer = false;
    }
    const { known, me } = session.value;
    if (!known) return;
    if (me && me.user_id !== this.#themeOf) {
      this.#themeOf = me.user_id;
      void readTheme();
    }
    if (path === "/link") return;
    if (me && (path === "/" || path === "/sign-in")) {
      const back = safeReturn(location.value.query.get("return_to"));
      queueMicrotask(() => navigate(back === "/" || back === "/sign-in" ? "/chat" : back, { replace: true }));
      return;
    }
    const found = findPage(path);
    document.title = found ? `${found.page.title} · Soma` : "Soma";
    if (me && found && found.page !== this.loaded) void this.#load(found.page);
  }

  async #load(page: PageEntry): Promise<void> {
    try {
      await page.load();
      this.loadProblem = null;
      this.loaded = page;
      this.renderRoot.querySelector("main")?.scrollTo(0, 0);
    } catch (error) {
      this.loadProblem = error;
    }
  }

  #announce(name: string): void {
    dispatchEvent(new CustomEvent(name));
  }

  override render() {
    const { known, me, problem } = session.value;
    const { path } = location.value;
    if (path === "/link") return this.#bare(() => import("../pages/link"), html`<soma-link></soma-link>`);
    if (!known) return html`<div class="waiting" aria-busy="true">${mark(40)}</div>`;
    if (!me && problem) {
      return html`<div class="middle">
        <soma-problem .problem=${problem} .retry=${() => void readMe()}></soma-problem>
      </div>`;
    }
    if (!me) return this.#bare(() => import("../pages/sign-in"), html`<soma-sign-in></soma-sign-in>`);
    if (me.totp_required) return this.#bare(() => import("../pages/enrol"), html`<soma-enrol></soma-enrol>`);
    return this.#frame(me.impersonator);
  }

  #bare(load: () => Promise<unknown>, content: unknown) {
    void load();
    return html`<main class="middle" id="content" tabindex="-1">${content}</main>
      <soma-toasts></soma-toasts>`;
  }

  #frame(impersonator: { email: string } | null) {
    const found = findPage(location.value.path);
    const me = session.value.me;
    return html`
      <a class="skip" href="#content" @click=${this.#skip}>Skip to the content</a>
      ${impersonator
        ? html`<div class="impersonating" role="status">
            <span
              >${icon("warn")} ${impersonator.email} acts as <strong>${me?.email}</strong>. Everything is recorded under
              both names.</span
            >
            <button class="tiny" @click=${this.#endImpersonation}>End it</button>
          </div>`
        : nothing}
      <div class="frame">
        <header class="bar">
          <button class="plain icon" aria-label="Menu" aria-expanded=${this.drawer} @click=${this.#toggle}>
            ${icon("menu", 18)}
          </button>
          <a class="brand" href="/chat" aria-label="Soma: chat">${mark()} Soma</a>
        </header>
        ${this.drawer ? html`<div class="scrim" @click=${this.#toggle}></div>` : nothing}
        <soma-nav class=${this.drawer ? "open" : ""} @help=${() => (this.help = true)}></soma-nav>
        <main id="content" tabindex="-1" class=${found?.page.full ? "full" : ""}>
          ${this.loadProblem
            ? html`<soma-problem .problem=${this.loadProblem} .retry=${() => globalThis.location.reload()}></soma-problem>`
            : found
              ? this.loaded === found.page
                ? found.page.draw(found.parameters)
                : nothing
              : html`<div class="lost">
                  <h1>There is no such page</h1>
                  <p>The address may be old. <a href="/chat">Go to the chat</a></p>
                </div>`}
        </main>
      </div>
      ${this.help ? html`<soma-shortcuts data-modal @closed=${() => (this.help = false)}></soma-shortcuts>` : nothing}
      <soma-toasts></soma-toasts>
    `;
  }

  #toggle(): void {
    this.drawer = !this.drawer;
  }

  #skip(event: Event): void {
    event.preventDefault();
    this.renderRoot.querySelector<HTMLElement>("main")?.focus();
  }

  async #endImpersonation(): Promise<void> {
    await attempt(() => api.delete("/me/impersonation"));
    await readMe();
  }
}
