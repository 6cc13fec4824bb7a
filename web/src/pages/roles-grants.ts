// Grants: a role or one action given to one user, or denied, for the tenant or one agent, for a time or for good.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Agent, User } from "../api/types";
import { nameOf, names, readNames } from "../app/names";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import { ago } from "../text/format";
import "../ui/dialog";
import "../ui/empty";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/problem-note";

interface Grant {
  id: string;
  user_id: string;
  role: string | null;
  permission: string | null;
  effect: "allow" | "deny";
  scope: string;
  agent_id: string | null;
  expires_at: string | null;
  created_at: string;
}

@customElement("soma-grants")
export class Grants extends LitElement {
  static override styles = [
    page,
    css`
      .bar {
        display: flex;
        justify-content: flex-end;
        margin-bottom: var(--s3);
      }
    `,
  ];

  @state() private making = false;
  @state() private problem: Problem | null = null;
  #read = new Loader(this, async () => {
    const [grants, users, agents] = await Promise.all([
      api.all<Grant>("/permissions/grants"),
      api.all<User>("/users"),
      can("agent:read") ? api.all<Agent>("/agents") : Promise.resolve<Agent[]>([]),
    ]);
    return { grants, users, agents };
  });
  #watch = new Watch(this, names, session);

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void readNames();
  }

  override render() {
    const { value, problem, reload } = this.#read;
    return html`<soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${can("user:assign_roles") ? html`<div class="bar"><button class="primary" @click=${() => (this.making = true)}>${icon("plus")} New grant</button></div>` : nothing}
      ${value?.grants.length === 0 ? html`<soma-empty heading="No grants" text="Everybody has what their roles allow."></soma-empty>` : nothing}
      ${value?.grants.length
        ? html`<div class="table">
            <table>
              <thead>
                <tr><th>Who</th><th>Effect</th><th>What</th><th>Where</th><th>Ends</th><th><span class="hidden-text">Actions</span></th></tr>
              </thead>
              <tbody>
                ${value.grants.map(
                  (grant) =>
                    html`<tr>
                      <td>${nameOf(grant.user_id)}</td>
                      <td><span class="tag ${grant.effect === "allow" ? "good" : "bad"}">${grant.effect}</span></td>
                      <td class="mono">${grant.role ? `role ${grant.role}` : grant.permission}</td>
                      <td>${grant.agent_id ? (value.agents.find((agent) => agent.id === grant.agent_id)?.name ?? grant.agent_id) : grant.scope}</td>
                      <td>${grant.expires_at ? ago(grant.expires_at) : "never"}</td>
                      <td class="act">
                        ${can("user:revoke_roles") ? html`<button class="tiny danger" @click=${() => void this.#end(grant)}>End</button>` : nothing}
                      </td>
                    </tr>`,
                )}
              </tbody>
            </table>
          </div>`
        : nothing}
      ${this.making && value ? this.#form(value.users, value.agents) : nothing}`;
  }

  #form(users: User[], agents: Agent[]) {
    return html`<soma-dialog heading="New grant" @closed=${() => (this.making = false)}>
      <form @submit=${this.#create}>
        <soma-problem .problem=${this.problem}></soma-problem>
        <label
          >Who<select name="user_id">
            ${users.map((user) => html`<option value=${user.id}>${user.name || user.email}</option>`)}
          </select></label
        >
        <div class="columns">
          <label>Effect<select name="effect"><option>allow</option><option>deny</option></select></label>
          <label
            >What<input name="what" class="code" required placeholder="agent:update" /><span class="hint"
              >An action like <code>file:read</code>, or a role's name.</span
            ></label
          >
        </div>
        <div class="columns">
          <label
            >Where<select name="agent_id">
              <option value="">the whole tenant</option>
              ${agents.map((agent) => html`<option value=${agent.id}>${agent.name}</option>`)}
            </select></label
          >
          <label>Until<input name="expires_at" type="datetime-local" /><span class="hint">empty: without end</span></label>
        </div>
        <div><button type="submit" class="primary">Grant</button></div>
      </form>
    </soma-dialog>`;
  }

  async #create(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const what = String(form.get("what") ?? "").trim();
    const agent = String(form.get("agent_id") ?? "");
    const until = String(form.get("expires_at") ?? "");
    try {
      await api.post("/permissions/grants", {
        user_id: form.get("user_id"),
        ...(what.includes(":") ? { permission: what } : { role: what }),
        effect: form.get("effect"),
        ...(agent ? { scope: "agent", agent_id: agent } : { scope: "tenant" }),
        ...(until ? { expires_at: new Date(until).toISOString() } : {}),
      });
      this.problem = null;
      this.making = false;
      await this.#read.reload();
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async #end(grant: Grant): Promise<void> {
    if (await attempt(() => api.delete(`/permissions/grants/${grant.id}`), "The grant was ended.")) await this.#read.reload();
  }
}
