// One agent: its prompt, model, tools and bounds, and beside them its versions.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Agent, Limits, Model, Tool } from "../api/types";
import { navigate } from "../app/router";
import { can } from "../app/session";
import { attempt, complain, say } from "../app/toasts";
import { page } from "../styles/controls";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";
import "./agent-versions";

const BOUNDS: [keyof Limits, string, string][] = [
  ["steps_max", "Model calls in a turn", "1 to 100"],
  ["tokens_max", "Tokens in a turn", "in and out of all calls"],
  ["output_tokens_max", "Tokens of one answer", ""],
  ["wall_clock_s", "Seconds for a turn", "1 to 86400"],
];

@customElement("soma-agent")
export class AgentPage extends LitElement {
  static override styles = [
    page,
    css`
      .sides {
        display: grid;
        grid-template-columns: minmax(0, 1.6fr) minmax(16rem, 1fr);
        gap: var(--s6);
        align-items: start;
      }
      textarea.code {
        min-height: 16rem;
      }
      .tools {
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--raised);
      }
      .tool {
        display: flex;
        align-items: flex-start;
        justify-content: space-between;
        gap: var(--s3);
        padding: 8px 12px;
        border-top: 1px solid var(--line);
      }
      .tool .small {
        flex: none;
      }
      .tool:first-child {
        border-top: 0;
      }
      @media (max-width: 1000px) {
        .sides {
          grid-template-columns: minmax(0, 1fr);
        }
      }
    `,
  ];

  @property() agent = "";
  @state() private problem: Problem | null = null;
  @state() private busy = false;
  #read = new Loader(this, async () => {
    const [agent, tools, models] = await Promise.all([
      api.get<Agent>(`/agents/${this.agent}`),
      can("tool:read") ? api.all<Tool>("/tools") : Promise.resolve<Tool[]>([]),
      can("model:read") ? api.all<Model>("/models") : Promise.resolve<Model[]>([]),
    ]);
    return { agent, tools, models };
  });

  override render() {
    const { value, problem, reload } = this.#read;
    if (!value) return html`<soma-problem .problem=${problem} .retry=${reload}></soma-problem>`;
    const { agent } = value;
    return html`<soma-head heading=${agent.name} text="${agent.slug}, version ${agent.version ?? 1}. A run at work sees a change at its next step.">
        <a class="button" href="/agents">All agents</a>
        ${can("agent:delete") && !agent.archived ? html`<button class="danger" @click=${this.#archive}>Archive</button>` : nothing}
        ${can("agent:update") && agent.archived ? html`<button @click=${this.#unarchive}>Bring back</button>` : nothing}
      </soma-head>
      <div class="sides">
        ${this.#form(value.agent, value.tools, value.models)}
        <soma-agent-versions .agent=${agent.slug} .version=${agent.version ?? 1} @restored=${reload}></soma-agent-versions>
      </div>`;
  }

  #form(agent: Agent, tools: Tool[], models: Model[]) {
    const fixed = !can("agent:update");
    return html`<form @submit=${this.#save}>
      <soma-problem .problem=${this.problem}></soma-problem>
      <fieldset ?disabled=${fixed} class="stack">
        <div class="columns">
          <label>Name<input name="name" required maxlength="100" .value=${agent.name} /></label>
          <label
            >Model<select name="model">
              <option value="" ?selected=${!agent.model}>the install's</option>
              ${models.map(({ name }) => html`<option value=${name} ?selected=${agent.model === name}>${name}</option>`)}
            </select></label
          >
        </div>
        <label>Prompt<textarea name="prompt" class="code" spellcheck="false" .value=${agent.prompt}></textarea></label>
        <fieldset>
          <legend>Tools</legend>
          <div class="tools">${tools.map((tool) => this.#tool(agent, tool))}</div>
        </fieldset>
        <fieldset>
          <legend>Bounds of a turn</legend>
          <div class="columns">
            ${BOUNDS.map(
              ([name, label, hint]) =>
                html`<label
                  >${label}<input name=${name} type="number" min="1" required .value=${String(agent.limits[name] ?? "")} /><span class="hint"
                    >${hint}</span
                  ></label
                >`,
            )}
            <label
              >Cost of a turn, in dollars<input
                name="cost"
                type="number"
                min="0"
                step="any"
                .value=${agent.limits.cost_micros_max === null ? "" : String(agent.limits.cost_micros_max / 1_000_000)}
              /><span class="hint">empty: no limit of its own</span></label
            >
          </div>
        </fieldset>
        ${fixed ? nothing : html`<div><button type="submit" class="primary" ?disabled=${this.busy}>Save as a new version</button></div>`}
      </fieldset>
    </form>`;
  }

  #tool(agent: Agent, tool: Tool) {
    const ask = agent.tools_ask ?? [];
    return html`<div class="tool">
      <label class="check"
        ><input type="checkbox" name="tools" value=${tool.name} .checked=${agent.tools.includes(tool.name)} /><span
          ><span class="mono">${tool.name}</span><span class="hint"><br />${tool.unavailable ?? tool.description}</span></span
        ></label
      >
      <label class="check small"
        ><input type="checkbox" name="tools_ask" value=${tool.name} .checked=${ask.includes(tool.name)} aria-label="${tool.name} asks first" />ask first</label
      >
    </div>`;
  }

  async #save(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const number = (name: string) => Number(form.get(name));
    const cost = String(form.get("cost") ?? "");
    const limits: Limits = {
      steps_max: number("steps_max"),
      tokens_max: number("tokens_max"),
      output_tokens_max: number("output_tokens_max"),
      wall_clock_s: number("wall_clock_s"),
      cost_micros_max: cost === "" ? null : Math.round(Number(cost) * 1_000_000),
    };
    const tools = form.getAll("tools").map(String);
    this.busy = true;
    try {
      await api.patch(`/agents/${this.agent}`, {
        name: form.get("name"),
        prompt: form.get("prompt"),
        model: form.get("model") || null,
        tools,
        tools_ask: form.getAll("tools_ask").map(String).filter((tool) => tools.includes(tool)),
        limits,
      });
      this.problem = null;
      say("The agent was saved.");
      await this.#read.reload();
    } catch (error) {
      this.problem = asProblem(error);
    } finally {
      this.busy = false;
    }
  }

  async #archive(): Promise<void> {
    try {
      await api.delete(`/agents/${this.agent}`);
      say("The agent is archived: it takes no new conversations.", () => this.#unarchive());
      navigate("/agents");
    } catch (error) {
      complain(error);
    }
  }

  async #unarchive(): Promise<void> {
    if (await attempt(() => api.patch(`/agents/${this.agent}`, { archived: false }))) await this.#read.reload();
  }
}
