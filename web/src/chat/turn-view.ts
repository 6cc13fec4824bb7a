// One turn: what was asked, and along a line what the agent said and did about it.
import { LitElement, html, nothing, type PropertyValues } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { can } from "../app/session";
import { complain, say } from "../app/toasts";
import { base, buttons, fields, tags } from "../styles/controls";
import { clock, count, moment, money } from "../text/format";
import { icon } from "../ui/icon";
import "../ui/markdown";
import type { Siblings } from "./branches";
import "./tool-card";
import { over, type Turn } from "./turn";
import { turnStyles } from "./turn-styles";

export interface EditEvent {
  run: string;
  text: string;
}

@customElement("soma-turn")
export class TurnView extends LitElement {
  static override styles = [base, buttons, fields, tags, turnStyles];

  /** The same object while it grows: it is drawn whenever its conversation is. */
  @property({ attribute: false, hasChanged: () => true }) turn!: Turn;
  @property({ attribute: false }) siblings: Siblings | undefined;
  /** The server knows branches, so a message can be edited. */
  @property({ type: Boolean }) branches = false;
  @property({ type: Boolean }) last = false;
  @state() private editing = false;
  #observer: IntersectionObserver | undefined;

  override connectedCallback(): void {
    super.connectedCallback();
    this.#observer = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) this.#seen();
    });
    this.#observer.observe(this);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#observer?.disconnect();
  }

  /** Details of past tool calls are read when somebody can see them. */
  #seen(): void {
    const tools = this.turn.parts.some((part) => part.kind === "tool");
    if (tools && !this.turn.detailed) this.dispatchEvent(new CustomEvent("seen"));
    if (over(this.turn)) this.#observer?.disconnect();
  }

  protected override updated(_changed: PropertyValues): void {
    this.toggleAttribute("working", !over(this.turn));
  }

  override render() {
    const turn = this.turn;
    const working = !over(turn);
    return html`<article aria-label="Turn">
      ${turn.question || this.editing ? this.#question(turn) : nothing}
      <div class="answer" aria-busy=${working}>
        ${repeat(turn.parts, (part) => `${part.kind}${part.id}`, (part) =>
          part.kind === "text"
            ? html`<div class="part said">
                <soma-markdown .text=${part.text} ?live=${!part.done && working}></soma-markdown>
              </div>`
            : html`<div class="part did"><soma-tool .call=${part} ?live=${working}></soma-tool></div>`,
        )}
        ${this.#status(turn)}
      </div>
      ${working ? nothing : this.#foot(turn)}
    </article>`;
  }

  #question(turn: Turn) {
    if (this.editing) {
      return html`<form class="asked editing" @submit=${this.#save} @keydown=${this.#editKey}>
        <textarea name="text" aria-label="Edit the message" rows="4" .value=${turn.question}></textarea>
        <div class="row">
          <button type="submit" class="primary tiny">Send as a new branch</button>
          <button type="button" class="tiny" @click=${() => (this.editing = false)}>Cancel</button>
          <span class="quiet small">What was said before stays: switch with ‹ ›.</span>
        </div>
      </form>`;
    }
    return html`<div class="asked">
      <div class="words">${turn.question}</div>
      <div class="tools">
        <time datetime=${turn.askedAt} title=${moment(turn.askedAt)}>${clock(turn.askedAt)}</time>
        ${this.branches && can("conversation:send_message")
          ? html`<button class="plain tiny icon" aria-label="Edit the message" title="Edit" @click=${this.#edit}>
              ${icon("edit", 14)}
            </button>`
          : nothing}
        ${this.#switcher()}
      </div>
    </div>`;
  }

  #switcher() {
    const beside = this.siblings;
    if (!beside) return nothing;
    const { runs, at } = beside;
    const go = (to: number) => this.dispatchEvent(new CustomEvent("branch", { detail: runs[to] }));
    return html`<span class="switcher" role="group" aria-label="Versions">
      <button class="plain tiny icon" aria-label="Previous version" ?disabled=${at === 0} @click=${() => go(at - 1)}>
        ${icon("left", 13)}
      </button>
      <span class="number">${at + 1} / ${runs.length}</span>
      <button class="plain tiny icon" aria-label="Next version" ?disabled=${at === runs.length - 1} @click=${() => go(at + 1)}>
        ${icon("right", 13)}
      </button>
    </span>`;
  }

  #status(turn: Turn) {
    if (turn.error) {
      return html`<div class="part failed" role="alert">
        <strong>The turn failed.</strong> ${turn.error.message} <span class="mono">${turn.error.code}</span>
      </div>`;
    }
    const last = turn.parts.at(-1);
    const quiet = !last || (last.kind === "tool" && last.status !== undefined);
    switch (turn.state) {
      case "queued":
        return html`<div class="part thinking">Waits for the turn before it</div>`;
      case "cancelling":
        return html`<div class="part thinking">Stopping…</div>`;
      case "cancelled":
        return html`<div class="part stopped">Stopped. What was said until then is kept.</div>`;
      case "running":
        return quiet ? html`<div class="part thinking"><span class="dots"></span>Thinking</div>` : nothing;
      default:
        return nothing;
    }
  }

  #foot(turn: Turn) {
    const answer = turn.parts.filter((part) => part.kind === "text").at(-1);
    const tokens = turn.usage ? turn.usage.input_tokens + turn.usage.output_tokens : 0;
    return html`<footer>
      ${answer
        ? html`<button class="plain tiny icon" aria-label="Copy the answer" title="Copy" @click=${() => void this.#copy(answer.text)}>
            ${icon("copy", 14)}
          </button>`
        : nothing}
      ${this.branches && can("conversation:send_message")
        ? html`<button class="plain tiny icon" aria-label="Answer again" title="Answer again" @click=${this.#again}>
            ${icon("again", 14)}
          </button>`
        : nothing}
      <a class="facts" href="/runs/${turn.run}" title="Inspect this run">
        ${tokens > 0 ? html`${count(tokens)} tokens · ` : nothing}${turn.costMicros !== undefined
          ? money(turn.costMicros)
          : "Inspect"}${turn.contextCut ? " · older messages left out" : nothing}
      </a>
    </footer>`;
  }

  async #edit(): Promise<void> {
    this.editing = true;
    await this.updateComplete;
    this.renderRoot.querySelector("textarea")?.focus();
  }

  #editKey(event: KeyboardEvent): void {
    if (event.key === "Escape") this.editing = false;
    else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      (event.currentTarget as HTMLFormElement).requestSubmit();
    }
  }

  #save(event: SubmitEvent): void {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget as HTMLFormElement).get("text") ?? "");
    this.editing = false;
    if (!text.trim()) return;
    this.dispatchEvent(new CustomEvent<EditEvent>("edit", { detail: { run: this.turn.run, text } }));
  }

  #again(): void {
    this.dispatchEvent(new CustomEvent("regenerate"));
  }

  async #copy(text: string): Promise<void> {
    try {
      await navigator.clipboard.writeText(text);
      say("The answer was copied.");
    } catch (error) {
      complain(error);
    }
  }
}
