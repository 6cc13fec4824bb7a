// The agents of the tenant.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Agent } from "../api/types";
import { navigate } from "../app/router";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { page } from "../styles/controls";
import { ago } from "../text/format";
import "../ui/dialog";
import "../ui/empty";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";

@customElement("soma-agents")
export class AgentsPage extends LitElement {
  static override styles = [
    page,
    css`
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

  @state() private making = false;
  @state() private problem: Problem | null = null;
  #read = new Loader(this, () => api.all<Agent>("/agents"));
  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    const { value, problem, reload } = this.#read;
    return html`<soma-head heading="Agents" text="An agent is a prompt, a model, the tools it may use, and bounds for each of its turns.">
        ${can("agent:create")
          ? html`<button class="primary" @click=${() => (this.making = true)}>${icon("plus")} New agent</button>`
          : nothing}
      </soma-head>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value?.length === 0 ? html`<soma-empty heading="No agents" text="Make one to talk to."></soma-empty>` : nothing}
      ${value?.length
        ? html`<div class="table">
            <table>
              <thead>
                <tr><th>Name</th><th>Model</th><th>Tools</th><th>Ask first</th><th class="number">Version</th><th>Changed</th></tr>
              </thead>
              <tbody>
                ${value.map((agent) => this.#row(agent))}
              </tbody>
            </table>
          </div>`
        : nothing}
      ${this.making ? this.#form() : nothing}`;
  }

  #row(agent: Agent) {
    return html`<tr>
      <td>
        <a href="/agents/${agent.slug}">${agent.name}</a> ${agent.archived ? html`<span class="tag">archived</span>` : nothing}
        <div class="quiet mono">${agent.slug}</div>
      </td>
      <td>${agent.model ?? html`<span class="quiet">the install's</span>`}</td>
      <td>${agent.tools.map((tool) => html`<span class="tag mono">${tool}</span> `)}</td>
      <td>${(agent.tools_ask ?? []).map((tool) => html`<span class="tag warn mono">${tool}</span> `)}</td>
      <td class="number">${agent.version ?? 1}</td>
      <td>${ago(agent.updated_at)}</td>
    </tr>`;
  }

  #form() {
    return html`<soma-dialog heading="New agent" @closed=${() => (this.making = false)}>
      <form @submit=${this.#create}>
        <soma-problem .problem=${this.problem}></soma-problem>
        <label>Name<input name="name" required maxlength="100" /></label>
        <label
          >Short name<input name="slug" class="code" required pattern="[a-z0-9]([a-z0-9\\-]*[a-z0-9])?" maxlength="60" /><span
            class="hint"
            >Lower-case letters, digits and hyphens. It is in addresses and stays as it is.</span
          ></label
        >
        <div><button type="submit" class="primary">Make it</button></div>
      </form>
    </soma-dialog>`;
  }

  async #create(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    try {
      const made = await api.post<Agent>("/agents", { name: form.get("name"), slug: form.get("slug") });
      navigate(`/agents/${made.slug}`);
    } catch (error) {
      this.problem = asProblem(error);
    }
  }
}
