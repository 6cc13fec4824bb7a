// The tenant's own roles: named lists of actions, and what a change of one would give and take.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import { nameOf, names, readNames } from "../app/names";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import "../ui/dialog";
import "../ui/empty";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/problem-note";

interface OwnRole {
  name: string;
  description: string;
  permissions: string[];
}

interface DryRun {
  gained: { user_id: string; action: string }[];
  lost: { user_id: string; action: string }[];
}

@customElement("soma-own-roles")
export class OwnRoles extends LitElement {
  static override styles = [
    page,
    css`
      .actions {
        max-height: 260px;
        overflow: auto;
        padding: 8px 12px;
        border: 1px solid var(--line);
        border-radius: var(--radius);
        columns: 2 13rem;
      }
      .actions label {
        padding: 2px 0;
        break-inside: avoid;
        font: 400 var(--text-xs) / 1.4 var(--mono);
      }
      .bar {
        display: flex;
        justify-content: flex-end;
        margin-bottom: var(--s3);
      }
      .effect {
        font-size: var(--text-s);
        color: var(--ink-2);
      }
    `,
  ];

  @state() private editing: OwnRole | "new" | null = null;
  @state() private problem: Problem | null = null;
  @state() private dry: DryRun | null = null;
  #read = new Loader(this, async () => {
    const [roles, catalogue] = await Promise.all([
      api.all<OwnRole>("/permissions/roles"),
      api.get<{ actions: Record<string, unknown> }>("/permissions/catalogue"),
    ]);
    return { roles, actions: Object.keys(catalogue.actions).sort() };
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
      ${can("user:assign_roles") ? html`<div class="bar"><button class="primary" @click=${() => this.#open("new")}>${icon("plus")} New role</button></div>` : nothing}
      ${value?.roles.length === 0 ? html`<soma-empty heading="No roles of your own" text="The built-in roles are in the matrix."></soma-empty>` : nothing}
      ${value?.roles.length
        ? html`<div class="table">
            <table>
              <thead>
                <tr><th>Name</th><th>For</th><th>Actions</th><th><span class="hidden-text">Actions</span></th></tr>
              </thead>
              <tbody>
                ${value.roles.map(
                  (role) =>
                    html`<tr>
                      <td class="mono">${role.name}</td>
                      <td>${role.description}</td>
                      <td>${role.permissions.map((action) => html`<span class="tag mono">${action}</span> `)}</td>
                      <td class="act">
                        ${can("user:assign_roles")
                          ? html`<button class="tiny" @click=${() => this.#open(role)}>Edit</button>
                              <button class="tiny danger" @click=${() => void this.#delete(role)}>Delete</button>`
                          : nothing}
                      </td>
                    </tr>`,
                )}
              </tbody>
            </table>
          </div>`
        : nothing}
      ${this.editing ? this.#form(this.editing, value?.actions ?? []) : nothing}`;
  }

  #open(which: OwnRole | "new"): void {
    this.problem = null;
    this.dry = null;
    this.editing = which;
  }

  #form(which: OwnRole | "new", actions: string[]) {
    const role = which === "new" ? { name: "", description: "", permissions: [] as string[] } : which;
    return html`<soma-dialog wide heading=${which === "new" ? "New role" : `Role ${role.name}`} @closed=${() => (this.editing = null)}>
      <form @submit=${this.#save}>
        <soma-problem .problem=${this.problem}></soma-problem>
        <div class="columns">
          <label>Name<input name="name" class="code" required pattern="[a-z][a-z0-9_]*" maxlength="60" .value=${role.name} ?readonly=${which !== "new"} /></label>
          <label>For<input name="description" maxlength="200" .value=${role.description} /></label>
        </div>
        <fieldset>
          <legend>Allows</legend>
          <div class="actions" tabindex="0" role="group" aria-label="Actions">
            ${actions.map(
              (action) =>
                html`<label class="check"><input type="checkbox" name="permissions" value=${action} .checked=${role.permissions.includes(action)} />${action}</label>`,
            )}
          </div>
        </fieldset>
        ${this.dry ? this.#effect(this.dry) : nothing}
        <div class="row">
          <button type="submit" class="primary">Save</button>
          <button type="button" @click=${this.#try}>What would change?</button>
        </div>
      </form>
    </soma-dialog>`;
  }

  #effect({ gained, lost }: DryRun) {
    if (gained.length + lost.length === 0) return html`<p class="effect" role="status">Nobody would gain or lose a right.</p>`;
    const line = (what: { user_id: string; action: string }, look: string, sign: string) =>
      html`<div><span class="tag ${look}">${sign}</span> ${nameOf(what.user_id)}: <span class="mono">${what.action}</span></div>`;
    return html`<div class="effect" role="status">
      ${gained.map((one) => line(one, "good", "gains"))} ${lost.map((one) => line(one, "bad", "loses"))}
    </div>`;
  }

  #values(form: HTMLFormElement): OwnRole {
    const data = new FormData(form);
    return {
      name: String(data.get("name") ?? ""),
      description: String(data.get("description") ?? ""),
      permissions: data.getAll("permissions").map(String),
    };
  }

  async #try(event: Event): Promise<void> {
    const form = (event.currentTarget as HTMLButtonElement).form;
    if (!form) return;
    const { name, permissions } = this.#values(form);
    try {
      this.dry = await api.post<DryRun>("/permissions/dry-run", { change: { kind: "role", name, permissions } });
      this.problem = null;
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async #save(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const { name, ...rest } = this.#values(event.currentTarget as HTMLFormElement);
    try {
      if (this.editing === "new") await api.post("/permissions/roles", { name, ...rest });
      else await api.patch(`/permissions/roles/${encodeURIComponent(name)}`, rest);
      this.editing = null;
      await this.#read.reload();
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async #delete(role: OwnRole): Promise<void> {
    if (await attempt(() => api.delete(`/permissions/roles/${encodeURIComponent(role.name)}`), "The role was deleted.")) await this.#read.reload();
  }
}
