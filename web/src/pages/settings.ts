// Settings at each level: what is set there, what counts in the end, and from where it comes.
import { LitElement, css, html, nothing } from "lit";
import { customElement } from "lit/decorators.js";
import { api } from "../api/client";
import type { Agent, Setting, SettingLevel, Tool } from "../api/types";
import { location, setQuery } from "../app/router";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { page, tabs } from "../styles/controls";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";
import "./setting";

interface Level {
  at: SettingLevel;
  label: string;
  text: string;
  /** Shows the level. */
  seen: () => boolean;
  /** Lets somebody set something there. */
  changed: () => boolean;
}

const LEVELS: Level[] = [
  {
    at: "user",
    label: "Mine",
    text: "For you alone, in this tenant.",
    seen: () => true,
    changed: () => true,
  },
  {
    at: "agent",
    label: "An agent's",
    text: "For one agent, whoever talks to it.",
    seen: () => can("tenant:read") && can("agent:read"),
    changed: () => can("agent:update"),
  },
  {
    at: "tenant",
    label: "The tenant's",
    text: "For everybody and every agent here, unless they have a value of their own.",
    seen: () => can("tenant:read"),
    changed: () => can("tenant:update"),
  },
  {
    at: "platform",
    label: "The platform's",
    text: "For every tenant of this install.",
    seen: () => can("platform:manage"),
    changed: () => can("platform:manage"),
  },
];

@customElement("soma-settings")
export class SettingsPage extends LitElement {
  static override styles = [
    page,
    tabs,
    css`
      .bar {
        display: flex;
        flex-wrap: wrap;
        align-items: center;
        justify-content: space-between;
        gap: var(--s2) var(--s4);
        max-width: 60rem;
        margin-bottom: var(--s3);
        font-size: var(--text-s);
        color: var(--ink-2);
      }
      .bar label {
        display: flex;
        align-items: center;
        gap: var(--s2);
      }
      ul {
        list-style: none;
        max-width: 60rem;
        border: 1px solid var(--line);
        border-radius: var(--radius-l);
        background: var(--raised);
      }
      li + li {
        border-top: 1px solid var(--line);
      }
    `,
  ];

  #shown = "";
  #agents = new Loader(this, () => (can("agent:read") ? api.all<Agent>("/agents") : Promise.resolve<Agent[]>([])));
  #tools = new Loader(this, () => (can("tool:read") ? api.all<Tool>("/tools") : Promise.resolve<Tool[]>([])));
  #read = new Loader(this, () => {
    const { at, agent } = this.#place();
    return api.all<Setting>("/settings", { limit: undefined, agent: at === "agent" ? agent : undefined });
  });
  #watch = new Watch(this, location, session);

  #place(): { at: SettingLevel; agent: string } {
    const { query } = location.value;
    const seen = LEVELS.filter((level) => level.seen());
    const asked = seen.find(({ at }) => at === query.get("at"));
    const at = asked?.at ?? (seen.some((level) => level.at === "tenant") ? "tenant" : "user");
    return { at, agent: query.get("agent") ?? "default" };
  }

  protected override willUpdate(): void {
    void this.#watch;
    const { at, agent } = this.#place();
    const shown = at === "agent" ? `agent:${agent}` : at;
    if (this.#shown && this.#shown !== shown) {
      this.#read.value = undefined;
      void this.#read.reload();
    }
    this.#shown = shown;
  }

  override render() {
    const { at, agent } = this.#place();
    const level = LEVELS.find((one) => one.at === at);
    const { value, problem, reload } = this.#read;
    const here = value?.filter((setting) => setting.allowed_at.includes(at));
    const editable = level?.changed() ?? false;
    return html`<soma-head
        heading="Settings"
        text="The nearest value counts: the user's, then the agent's, the tenant's, the platform's, and else the default. Where a setting guards something, a nearer level can only make it stricter."
      ></soma-head>
      <nav class="tabs" aria-label="Levels">
        ${LEVELS.filter((one) => one.seen()).map(
          (one) => html`<a href="/settings?at=${one.at}" aria-current=${one.at === at ? "page" : nothing}>${one.label}</a>`,
        )}
      </nav>
      <div class="bar">
        <span>${level?.text}${editable ? nothing : " Your roles let you read them, not change them."}</span>
        ${at === "agent" ? this.#chooseAgent(agent) : nothing}
      </div>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${here?.length === 0 ? html`<soma-empty heading="No settings" text="Nothing can be set at this level."></soma-empty>` : nothing}
      ${here?.length
        ? html`<ul>
            ${here.map(
              (setting) =>
                html`<li>
                  <soma-setting
                    .setting=${setting}
                    .level=${at}
                    .scope=${this.#shown}
                    .tools=${this.#tools.value ?? []}
                    ?editable=${editable}
                    @changed=${reload}
                  ></soma-setting>
                </li>`,
            )}
          </ul>`
        : nothing}`;
  }

  #chooseAgent(chosen: string) {
    return html`<label
      >Agent<select @change=${(event: Event) => setQuery({ at: "agent", agent: (event.target as HTMLSelectElement).value })}>
        ${(this.#agents.value ?? []).map(({ slug, name }) => html`<option value=${slug} ?selected=${slug === chosen}>${name}</option>`)}
      </select></label
    >`;
  }
}
