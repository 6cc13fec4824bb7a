// A conversation that has not begun: whom to talk to, and the first message.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api, idempotencyKey } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Agent } from "../api/types";
import { navigate } from "../app/router";
import { can, session } from "../app/session";
import { remember, remembered } from "../app/storage";
import { Watch } from "../app/store";
import { base, buttons, fields } from "../styles/controls";
import { icon, mark } from "../ui/icon";
import "../ui/empty";
import "../ui/problem-note";
import "./composer";
import type { SendEvent } from "./composer";
import * as conversations from "./conversations";

@customElement("soma-new-conversation")
export class NewConversation extends LitElement {
  static override styles = [
    base,
    buttons,
    fields,
    css`
      :host {
        height: 100%;
        display: grid;
        grid-template-rows: auto 1fr;
        overflow-y: auto;
      }
      .back {
        display: none;
        padding: var(--s2);
      }
      .center {
        grid-row: 2;
        width: min(100% - 2 * var(--s4), 42rem);
        margin: auto;
        padding: var(--s4) 0 12vh;
        display: grid;
        gap: var(--s4);
      }
      .greet {
        display: grid;
        gap: var(--s3);
        color: var(--accent);
      }
      h2 {
        font-size: var(--text-2xl);
        letter-spacing: -0.02em;
        color: var(--ink);
        text-wrap: balance;
      }
      .agents {
        display: flex;
        flex-wrap: wrap;
        gap: var(--s2);
      }
      .agents label {
        display: inline-flex;
        align-items: center;
        min-height: var(--control);
        padding: 0 12px;
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--raised);
        color: var(--ink);
        cursor: pointer;
      }
      .agents label:has(:checked) {
        border-color: var(--accent);
        background: var(--accent-soft);
        color: var(--accent-ink);
      }
      .agents label:has(:focus-visible) {
        outline: 2px solid var(--accent);
        outline-offset: 2px;
      }
      @media (max-width: 760px) {
        .back {
          display: block;
        }
      }
    `,
  ];

  @state() private agents: Agent[] | null = null;
  @state() private agent = remembered("agent");
  @state() private problem: Problem | null = null;
  @state() private busy = false;
  #watch = new Watch(this, session);

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void this.#read();
  }

  async #read(): Promise<void> {
    this.problem = null;
    try {
      const agents = (await api.all<Agent>("/agents")).filter((agent) => !agent.archived);
      this.agents = agents;
      if (!agents.some((agent) => agent.slug === this.agent)) {
        this.agent = (agents.find((agent) => agent.slug === "default") ?? agents[0])?.slug ?? "";
      }
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  override render() {
    const name = session.value.me?.name?.split(" ")[0];
    return html`<div class="back"><a class="button plain tiny" href="/chat">${icon("left", 14)} Conversations</a></div>
      <div class="center">
        <div class="greet">
          ${mark(36)}
          <h2>${name ? `What shall be done, ${name}?` : "What shall be done?"}</h2>
        </div>
        ${this.problem ? html`<soma-problem .problem=${this.problem} .retry=${() => void this.#read()}></soma-problem>` : nothing}
        ${can("conversation:create") ? this.#form() : html`<p class="quiet">Your roles let you read conversations, not begin them.</p>`}
      </div>`;
  }

  #form() {
    const agents = this.agents;
    if (!agents) return nothing;
    if (agents.length === 0) {
      return html`<soma-empty heading="There is no agent yet" text="An agent has a prompt, a model and tools.">
        ${can("agent:create") ? html`<a class="button primary" href="/agents">Make one</a>` : nothing}
      </soma-empty>`;
    }
    return html`${agents.length > 1
        ? html`<fieldset>
            <legend>With</legend>
            <div class="agents">
              ${agents.map(
                (agent) =>
                  html`<label>
                    <input
                      class="hidden-text"
                      type="radio"
                      name="agent"
                      .checked=${agent.slug === this.agent}
                      @change=${() => this.#choose(agent.slug)}
                    />${agent.name}</label
                  >`,
              )}
            </div>
          </fieldset>`
        : nothing}
      <soma-composer draft="new" .busy=${this.busy} autofocus @send=${this.#send}></soma-composer>`;
  }

  #choose(slug: string): void {
    this.agent = slug;
    remember("agent", slug);
  }

  async #send(event: CustomEvent<SendEvent>): Promise<void> {
    this.busy = true;
    this.problem = null;
    try {
      const made = await conversations.create(this.agent);
      await api.post(`/conversations/${made.id}/messages`, { content: event.detail.text }, idempotencyKey());
      event.detail.sent();
      navigate(`/chat/${made.id}`);
    } catch (error) {
      this.problem = asProblem(error);
    } finally {
      this.busy = false;
    }
  }
}
