// The navigation: only what the signed-in person may open, and at its foot the person.
import { LitElement, css, html, nothing } from "lit";
import { customElement } from "lit/decorators.js";
import { api } from "../api/client";
import type { Me } from "../api/types";
import { base, buttons } from "../styles/controls";
import { icon, mark, type IconName } from "../ui/icon";
import "../ui/menu";
import type { MenuItem } from "../ui/menu";
import { pendingApprovals } from "./badge";
import { GOVERN, WORK, type NavEntry } from "./pages";
import { location, navigate } from "./router";
import { can, session, signedIn, signOut } from "./session";
import { Watch } from "./store";
import { nextTheme, theme } from "./theme";
import { attempt } from "./toasts";

const THEME_ICONS: Record<string, IconName> = { system: "auto", light: "sun", dark: "moon" };

@customElement("soma-nav")
export class Nav extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      :host {
        width: 196px;
        background: var(--sunken);
        border-right: 1px solid var(--line);
      }
      nav {
        display: flex;
        flex-direction: column;
        height: 100%;
        padding: var(--s3) var(--s2);
        overflow-y: auto;
      }
      .brand {
        display: flex;
        align-items: center;
        gap: 8px;
        padding: 2px 8px var(--s4);
        font-weight: 640;
        font-size: var(--text-l);
        letter-spacing: -0.01em;
        color: var(--ink);
        text-decoration: none;
      }
      .brand svg {
        color: var(--accent);
      }
      ul {
        list-style: none;
        display: grid;
        gap: 1px;
      }
      h2 {
        padding: var(--s4) 8px 4px;
        font: 500 var(--text-xs) / 1.4 var(--sans);
        color: var(--ink-3);
      }
      li a {
        display: flex;
        align-items: center;
        gap: 10px;
        min-height: 32px;
        padding: 0 8px;
        border-radius: var(--radius);
        color: var(--ink-2);
        font-size: var(--text-m);
        font-weight: 470;
        text-decoration: none;
      }
      li a:hover {
        background: var(--hover);
        color: var(--ink);
      }
      li a[aria-current] {
        background: var(--raised);
        color: var(--ink);
        font-weight: 560;
        box-shadow: inset 0 0 0 1px var(--line);
      }
      li a[aria-current] svg {
        color: var(--accent);
      }
      .badge {
        margin-left: auto;
        min-width: 18px;
        padding: 0 5px;
        border-radius: 9px;
        background: var(--accent);
        color: var(--on-accent);
        font: 600 var(--text-xs) / 18px var(--sans);
        text-align: center;
      }
      .foot {
        margin-top: auto;
        padding-top: var(--s4);
        display: grid;
        gap: 2px;
      }
      .tools {
        display: flex;
        gap: 2px;
      }
      .who {
        display: grid;
        text-align: left;
        min-width: 0;
        line-height: 1.3;
        gap: 1px;
      }
      .who span {
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        max-width: 120px;
      }
      soma-menu {
        width: 100%;
      }
      @media (pointer: coarse) {
        li a {
          min-height: 40px;
        }
      }
    `,
  ];

  #watch = new Watch(this, session, location, pendingApprovals, theme);

  override render() {
    void this.#watch;
    const me = session.value.me;
    if (!me) return nothing;
    const govern = GOVERN.filter(({ needs }) => needs.some(can));
    return html`<nav aria-label="Main">
      <a class="brand" href="/chat">${mark(24)} Soma</a>
      <ul>
        ${WORK.filter(({ needs }) => needs.some(can)).map((entry) => this.#entry(entry))}
      </ul>
      ${govern.length > 0
        ? html`<h2 id="govern">Govern</h2>
            <ul aria-labelledby="govern">
              ${govern.map((entry) => this.#entry(entry))}
            </ul>`
        : nothing}
      <div class="foot">
        <div class="tools">
          <button class="plain icon" @click=${nextTheme} aria-label="Theme: ${theme.value}" title="Theme: ${theme.value}">
            ${icon(THEME_ICONS[theme.value] ?? "auto")}
          </button>
          <button class="plain icon" @click=${this.#help} aria-label="Keyboard shortcuts" title="Keyboard shortcuts">
            ${icon("keyboard")}
          </button>
        </div>
        <soma-menu label="${me.name || me.email} ${me.tenant?.name ?? ""}: account" look="plain account" .items=${this.#account(me)}>
          <span class="who" slot=""
            ><span>${me.name || me.email}</span> <span class="caps">${me.tenant?.name ?? ""}</span></span
          >
        </soma-menu>
      </div>
    </nav>`;
  }

  #entry({ path, label, icon: name }: NavEntry) {
    const here = location.value.path;
    const current = here === path || here.startsWith(`${path}/`) || (path === "/chat" && here.startsWith("/runs/"));
    const badge = path === "/approvals" ? pendingApprovals.value : 0;
    return html`<li>
      <a href=${path} aria-current=${current ? "page" : nothing}>
        ${icon(name, 17)}${label}
        ${badge > 0
          ? html`<span class="badge">${badge > 99 ? "99+" : badge}<span class="hidden-text"> waiting</span></span>`
          : nothing}
      </a>
    </li>`;
  }

  #account(me: Me): MenuItem[] {
    const others = (me.tenants ?? []).filter((tenant) => tenant.id !== me.tenant_id);
    return [
      { label: "Profile and security", icon: "user", run: () => navigate("/profile") },
      ...others.map((tenant): MenuItem => ({
        label: `Switch to ${tenant.name}`,
        icon: "restore",
        run: () => void this.#switch(tenant.id),
      })),
      { label: "Sign out", icon: "leave", run: () => void attempt(signOut) },
    ];
  }

  async #switch(tenant: string): Promise<void> {
    const switched = await attempt(async () => signedIn(await api.post<Me>("/me/tenant", { tenant_id: tenant })));
    // Nothing of the other tenant stays on the page.
    if (switched) globalThis.location.assign("/chat");
  }

  #help(): void {
    this.dispatchEvent(new CustomEvent("help"));
  }
}
