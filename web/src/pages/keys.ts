// API keys: made, shown once, rotated with an overlap, revoked.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { ApiKey, User } from "../api/types";
import { nameOf, names, readNames } from "../app/names";
import { can } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import { ago, day } from "../text/format";
import "../ui/dialog";
import "../ui/empty";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/menu";
import type { MenuItem } from "../ui/menu";
import "../ui/page-head";
import "../ui/problem-note";
import "../ui/secret";

const DAY_S = 86_400;
/** How long a rotated key goes on working, so that its users can change over. */
const OVERLAP_S = DAY_S;

@customElement("soma-keys")
export class KeysPage extends LitElement {
  static override styles = [page, css`.gone { color: var(--ink-3); }`];

  @state() private dialog: "" | "new" | "shown" = "";
  @state() private problem: Problem | null = null;
  @state() private services: User[] = [];
  #key = "";
  #read = new Loader(this, () => api.all<ApiKey>("/api-keys"));
  #watch = new Watch(this, names);

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void readNames();
  }

  override render() {
    const { value, problem, reload } = this.#read;
    return html`<soma-head heading="API keys" text="A key is one user in one tenant, limited to its scopes. It is shown once; only its hash is kept.">
        ${can("apikey:create") ? html`<button class="primary" @click=${this.#open}>${icon("plus")} New key</button>` : nothing}
      </soma-head>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value?.length === 0 ? html`<soma-empty heading="No keys" text="Programs sign in with a key."></soma-empty>` : nothing}
      ${value?.length
        ? html`<div class="table">
            <table>
              <thead>
                <tr><th>Name</th><th>Begins with</th><th>Of</th><th>Scopes</th><th>Last used</th><th>Ends</th><th><span class="hidden-text">Actions</span></th></tr>
              </thead>
              <tbody>
                ${value.map((key) => this.#row(key))}
              </tbody>
            </table>
          </div>`
        : nothing}
      ${this.dialog === "new" ? this.#form() : nothing}
      ${this.dialog === "shown"
        ? html`<soma-dialog heading="Your new key" @closed=${() => (this.dialog = "")}>
            <soma-secret .value=${this.#key} text="Copy it now: it is not shown again."></soma-secret>
          </soma-dialog>`
        : nothing}`;
  }

  #row(key: ApiKey) {
    const items: MenuItem[] = [];
    if (!key.revoked_at && can("apikey:rotate")) {
      items.push({ label: "Rotate: the old key works one more day", icon: "again", run: () => void this.#rotate(key) });
    }
    if (!key.revoked_at && can("apikey:revoke")) {
      items.push({ label: "Revoke at once", icon: "trash", danger: true, run: () => void this.#revoke(key) });
    }
    return html`<tr class=${key.revoked_at ? "gone" : ""}>
      <td>${key.name || "—"}</td>
      <td class="mono">${key.prefix}…</td>
      <td>${nameOf(key.user_id)}</td>
      <td>${key.scopes.length ? key.scopes.map((scope) => html`<span class="tag">${scope}</span> `) : "all of its user's"}</td>
      <td>${ago(key.last_used_at)}</td>
      <td>${key.revoked_at ? html`<span class="tag bad">revoked</span>` : key.expires_at ? day(key.expires_at) : "never"}</td>
      <td class="act">${items.length ? html`<soma-menu label="Actions for ${key.name || key.prefix}" .items=${items}></soma-menu>` : nothing}</td>
    </tr>`;
  }

  async #open(): Promise<void> {
    this.problem = null;
    this.dialog = "new";
    if (!can("user:read")) return;
    try {
      this.services = (await api.all<User>("/users")).filter((user) => user.kind === "service");
    } catch {
      // Then a key is made for oneself.
    }
  }

  #form() {
    return html`<soma-dialog heading="New API key" @closed=${() => (this.dialog = "")}>
      <form @submit=${this.#create}>
        <soma-problem .problem=${this.problem}></soma-problem>
        <label>Name<input name="name" required maxlength="100" placeholder="nightly report" /></label>
        ${this.services.length
          ? html`<label
              >For<select name="user_id">
                <option value="">myself</option>
                ${this.services.map((user) => html`<option value=${user.id}>${user.name || user.email}</option>`)}
              </select></label
            >`
          : nothing}
        <label
          >Scopes<input name="scopes" class="code" placeholder="conversation:* agent:read" /><span class="hint"
            >Actions that the key is limited to, apart by spaces. Empty: all of its user's rights.</span
          ></label
        >
        <label
          >Ends<select name="days">
            <option value="30">after 30 days</option>
            <option value="90" selected>after 90 days</option>
            <option value="365">after a year</option>
            <option value="">never</option>
          </select></label
        >
        <div><button type="submit" class="primary">Make the key</button></div>
      </form>
    </soma-dialog>`;
  }

  async #create(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const days = Number(form.get("days") || 0);
    const user = String(form.get("user_id") ?? "");
    try {
      const made = await api.post<{ key: string }>("/api-keys", {
        name: form.get("name"),
        scopes: String(form.get("scopes") ?? "").split(/\s+/).filter(Boolean),
        ...(days ? { lifetime_s: days * DAY_S } : {}),
        ...(user ? { user_id: user } : {}),
      });
      this.#show(made.key);
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  #show(key: string): void {
    this.#key = key;
    this.dialog = "shown";
    void this.#read.reload();
  }

  async #rotate(key: ApiKey): Promise<void> {
    await attempt(async () => {
      const made = await api.post<{ key: string }>(`/api-keys/${key.id}/rotate`, { overlap_s: OVERLAP_S });
      this.#show(made.key);
    });
  }

  async #revoke(key: ApiKey): Promise<void> {
    if (await attempt(() => api.delete(`/api-keys/${key.id}`), "The key was revoked. It stops working within a second.")) {
      await this.#read.reload();
    }
  }
}
