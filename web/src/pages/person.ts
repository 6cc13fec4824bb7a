// One user: roles, sessions, a new password, the lock, and acting as them.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import type { Me, Session, User } from "../api/types";
import { navigate } from "../app/router";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import { ago, moment } from "../text/format";
import "../ui/dialog";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";
import "../ui/secret";
import { ROLES } from "./people";
import { browser } from "./profile";

@customElement("soma-person")
export class PersonPage extends LitElement {
  static override styles = [
    page,
    css`
      section {
        max-width: 48rem;
        margin-bottom: var(--s5);
      }
      h2 {
        margin-bottom: var(--s3);
      }
      .give {
        display: flex;
        gap: var(--s2);
        max-width: 20rem;
        margin-top: var(--s3);
      }
      .tag button {
        min-height: 0;
        padding: 0 2px;
        border: 0;
        background: none;
        color: inherit;
      }
    `,
  ];

  @property() user = "";
  @state() private dialog: "" | "link" | "impersonate" | "delete" = "";
  #link = "";
  #read = new Loader(this, async () => {
    const user = await api.get<User>(`/users/${this.user}`);
    const sessions = can("user:view_activity") || can("user:read") ? await api.all<Session>(`/users/${this.user}/sessions`).catch(() => []) : [];
    return { user, sessions };
  });
  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    const { value, problem, reload } = this.#read;
    if (!value) return html`<soma-problem .problem=${problem} .retry=${reload}></soma-problem>`;
    const { user, sessions } = value;
    const me = session.value.me;
    const other = user.id !== me?.user_id;
    const person = user.kind === "person";
    return html`<soma-head heading=${user.name || user.email} text="${person ? user.email : "An account of a program"}. In the tenant since ${moment(user.created_at)}, seen ${ago(user.last_seen_at)}.">
        ${user.locked && can("user:update") ? html`<button @click=${() => void this.#do("unlock", "The account is open again.")}>Unlock</button>` : nothing}
        ${person && can("user:reset_password") ? html`<button @click=${this.#reset}>Link for a new password</button>` : nothing}
        ${person && other && can("platform:impersonate") ? html`<button @click=${() => (this.dialog = "impersonate")}>Act as them</button>` : nothing}
        ${other && can("user:delete") ? html`<button class="danger" @click=${() => (this.dialog = "delete")}>Remove</button>` : nothing}
      </soma-head>
      <section>
        <h2>Roles</h2>
        <div class="row">${user.roles.map((role) => this.#role(role))} ${user.roles.length ? nothing : html`<span class="quiet">none: they may do nothing</span>`}</div>
        ${can("user:assign_roles") ? this.#give() : nothing}
        <p class="small"><br /><a href="/roles?user=${user.id}">What they may do, and why</a></p>
      </section>
      ${person ? this.#sessions(sessions) : nothing} ${this.#dialogs(user)}`;
  }

  #role(role: string) {
    return html`<span class="tag accent"
      >${role}
      ${can("user:revoke_roles")
        ? html`<button aria-label="Take the role ${role}" @click=${() => void this.#take(role)}>${icon("close", 11)}</button>`
        : nothing}</span
    >`;
  }

  #give() {
    return html`<form class="give" @submit=${this.#assign}>
      <input name="role" list="roles" aria-label="Role" placeholder="role" required /><datalist id="roles">
        ${ROLES.map((role) => html`<option value=${role}></option>`)}
      </datalist>
      <button type="submit">Give</button>
    </form>`;
  }

  #sessions(sessions: Session[]) {
    return html`<section>
      <h2>Sessions</h2>
      ${sessions.length
        ? html`<div class="table">
              <table>
                <thead>
                  <tr><th>Browser</th><th>Address</th><th>Last used</th></tr>
                </thead>
                <tbody>
                  ${sessions.map((one) => html`<tr><td>${browser(one.user_agent)}</td><td class="mono">${one.address ?? "—"}</td><td>${ago(one.last_used_at)}</td></tr>`)}
                </tbody>
              </table>
            </div>
            ${can("user:update") ? html`<p><br /><button class="danger" @click=${this.#endAll}>End all of them</button></p>` : nothing}`
        : html`<p class="quiet small">None is open.</p>`}
    </section>`;
  }

  #dialogs(user: User) {
    const close = () => (this.dialog = "");
    switch (this.dialog) {
      case "link":
        return html`<soma-dialog heading="Link for a new password" @closed=${close}>
          <soma-secret .value=${this.#link} text="Send it to ${user.email}. It works once, for an hour."></soma-secret>
        </soma-dialog>`;
      case "impersonate":
        return html`<soma-dialog heading="Act as ${user.email}" @closed=${close}>
          <form @submit=${this.#impersonate}>
            <p class="small">For one hour. Every row of the audit names both of you.</p>
            <label>Why?<textarea name="reason" required rows="2" maxlength="500"></textarea></label>
            <div><button type="submit" class="primary">Begin</button></div>
          </form>
        </soma-dialog>`;
      case "delete":
        return html`<soma-dialog heading="Remove ${user.email}" @closed=${close}>
          <p class="small">Their sessions and keys end at once. What they did stays in the audit. Inviting them again brings them back.</p>
          <p><br /><button class="danger" @click=${this.#delete}>Remove</button></p>
        </soma-dialog>`;
      default:
        return nothing;
    }
  }

  async #do(what: string, done: string): Promise<void> {
    if (await attempt(() => api.post(`/users/${this.user}/${what}`), done)) await this.#read.reload();
  }

  async #assign(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const role = String(new FormData(form).get("role") ?? "").trim();
    const given = await attempt(() => api.post("/permissions/assignments", { user_id: this.user, role }), "The role was given. It counts within a second.");
    if (!given) return;
    form.reset();
    await this.#read.reload();
  }

  async #take(role: string): Promise<void> {
    if (await attempt(() => api.delete(`/permissions/assignments/${this.user}/${encodeURIComponent(role)}`), "The role was taken.")) {
      await this.#read.reload();
    }
  }

  async #reset(): Promise<void> {
    await attempt(async () => {
      const made = await api.post<{ link?: string }>(`/users/${this.user}/reset-link`);
      this.#link = made.link ?? "It was sent by mail.";
      this.dialog = "link";
    });
  }

  async #endAll(): Promise<void> {
    if (await attempt(() => api.delete(`/users/${this.user}/sessions`), "Their sessions were ended.")) await this.#read.reload();
  }

  async #impersonate(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const reason = String(new FormData(event.currentTarget as HTMLFormElement).get("reason") ?? "");
    // Nothing of the own session stays on the page.
    if (await attempt(() => api.post<Me>(`/users/${this.user}/impersonate`, { reason }))) globalThis.location.assign("/chat");
  }

  async #delete(): Promise<void> {
    if (await attempt(() => api.delete(`/users/${this.user}`), "They were removed.")) navigate("/people");
  }
}
