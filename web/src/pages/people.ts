// People: users, service accounts and invitations of the tenant.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Invitation, User } from "../api/types";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import { ago } from "../text/format";
import "../ui/dialog";
import "../ui/empty";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";
import "../ui/secret";

/** Roles by their tenant names, the most given first. */
export const ROLES = ["member", "viewer", "admin", "owner"];

@customElement("soma-people")
export class PeoplePage extends LitElement {
  static override styles = [
    page,
    css`
      h2 {
        margin: var(--s5) 0 var(--s3);
      }
      td a {
        color: var(--ink);
        font-weight: 520;
        text-decoration: none;
      }
      td a:hover {
        text-decoration: underline;
      }
    `,
  ];

  @state() private dialog: "" | "invite" | "service" | "link" = "";
  @state() private problem: Problem | null = null;
  #link = "";
  #users = new Loader(this, () => api.all<User>("/users"));
  #invitations = new Loader(this, () => (can("user:create") ? api.all<Invitation>("/invitations") : Promise.resolve<Invitation[]>([])));
  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    const { value, problem, reload } = this.#users;
    const invitations = this.#invitations.value ?? [];
    return html`<soma-head heading="People" text="Who is in this tenant, and the accounts of programs.">
        ${can("user:create")
          ? html`<button @click=${() => this.#open("service")}>${icon("plus")} Service account</button>
              <button class="primary" @click=${() => this.#open("invite")}>${icon("plus")} Invite</button>`
          : nothing}
      </soma-head>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value ? this.#table(value) : nothing}
      ${invitations.length ? html`<h2>Invitations</h2>${this.#waiting(invitations)}` : nothing}
      ${this.dialog === "invite" || this.dialog === "service" ? this.#form(this.dialog) : nothing}
      ${this.dialog === "link"
        ? html`<soma-dialog heading="The invitation's link" @closed=${() => (this.dialog = "")}>
            <soma-secret .value=${this.#link} text="No mail is set up, so send it yourself. It works once and is not shown again."></soma-secret>
          </soma-dialog>`
        : nothing}`;
  }

  #table(users: User[]) {
    return html`<div class="table">
      <table>
        <thead>
          <tr><th>Name</th><th>Roles</th><th>Second factor</th><th>Last seen</th></tr>
        </thead>
        <tbody>
          ${users.map(
            (user) =>
              html`<tr>
                <td>
                  <a href="/people/${user.id}">${user.name || user.email}</a>
                  ${user.kind === "service" ? html`<span class="tag info">program</span>` : nothing}
                  ${user.locked ? html`<span class="tag bad">locked</span>` : nothing}
                  <div class="quiet">${user.kind === "service" ? nothing : user.email}</div>
                </td>
                <td>${user.roles.map((role) => html`<span class="tag">${role}</span> `)}</td>
                <td>${user.kind === "service" ? "—" : user.totp ? html`<span class="tag good">on</span>` : "off"}</td>
                <td>${ago(user.last_seen_at)}</td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
  }

  #waiting(invitations: Invitation[]) {
    return html`<div class="table">
      <table>
        <thead>
          <tr><th>Email</th><th>Roles</th><th>Ends</th><th><span class="hidden-text">Actions</span></th></tr>
        </thead>
        <tbody>
          ${invitations.map(
            (one) =>
              html`<tr>
                <td>${one.email}</td>
                <td>${one.roles.map((role) => html`<span class="tag">${role}</span> `)}</td>
                <td>${ago(one.expires_at)}</td>
                <td class="act"><button class="tiny danger" @click=${() => void this.#takeBack(one)}>Take back</button></td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
  }

  #open(dialog: "invite" | "service"): void {
    this.problem = null;
    this.dialog = dialog;
  }

  #form(which: "invite" | "service") {
    const invite = which === "invite";
    return html`<soma-dialog heading=${invite ? "Invite somebody" : "New service account"} @closed=${() => (this.dialog = "")}>
      <form @submit=${(event: SubmitEvent) => void this.#create(event, which)}>
        <soma-problem .problem=${this.problem}></soma-problem>
        ${invite
          ? html`<label>Email<input name="email" type="email" required /></label>`
          : html`<label>Name<input name="name" required maxlength="100" /></label>`}
        <label
          >Role<select name="role">
            ${ROLES.map((role) => html`<option value=${role}>${role}</option>`)}
          </select></label
        >
        <div><button type="submit" class="primary">${invite ? "Invite" : "Make it"}</button></div>
      </form>
    </soma-dialog>`;
  }

  async #create(event: SubmitEvent, which: "invite" | "service"): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const roles = [form.get("role")];
    try {
      if (which === "invite") {
        const made = await api.post<Invitation>("/invitations", { email: form.get("email"), roles });
        this.#link = made.link ?? "";
        this.dialog = made.link ? "link" : "";
        await this.#invitations.reload();
      } else {
        await api.post("/service-accounts", { name: form.get("name"), roles });
        this.dialog = "";
        await this.#users.reload();
      }
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async #takeBack(one: Invitation): Promise<void> {
    if (await attempt(() => api.delete(`/invitations/${one.id}`), "The invitation was taken back.")) await this.#invitations.reload();
  }
}
