// An open conversation: its head, its turns, and the composer at its foot. The newest stays in view while it grows,
// unless somebody has scrolled up to read.
import { LitElement, html, nothing, type PropertyValues } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { location, setQuery } from "../app/router";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { base, buttons, fields } from "../styles/controls";
import "../ui/empty";
import { icon } from "../ui/icon";
import "../ui/problem-note";
import { siblings } from "./branches";
import "./composer";
import type { SendEvent } from "./composer";
import { Thread } from "./thread";
import { threadStyles } from "./thread-styles";
import "./turn-view";
import type { EditEvent } from "./turn-view";

/** How close to the end counts as being there. */
const NEAR_PX = 80;
/** Turns drawn at first; older ones come on demand. */
const TURNS_DRAWN = 40;

@customElement("soma-thread")
export class ThreadView extends LitElement {
  static override styles = [base, buttons, fields, threadStyles];

  @property() conversation = "";
  @property({ type: Boolean }) files = false;
  @state() private busy = false;
  @state() private renaming = false;
  @state() private away = false;
  @state() private drawn = TURNS_DRAWN;
  @query(".turns") private scroller!: HTMLElement | null;
  #thread: Thread | null = null;
  #unsubscribe = () => {};
  #watch = new Watch(this, session);
  #pinned = true;

  protected override willUpdate(changed: PropertyValues): void {
    void this.#watch;
    if (changed.has("conversation")) this.#open();
  }

  #open(): void {
    this.#thread?.close();
    this.#unsubscribe();
    this.#pinned = true;
    this.drawn = TURNS_DRAWN;
    this.renaming = false;
    const thread = new Thread(this.conversation);
    this.#thread = thread;
    this.#unsubscribe = thread.state.subscribe(() => this.requestUpdate());
    void thread.open(location.value.query.get("leaf") ?? undefined);
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#thread?.close();
    this.#unsubscribe();
  }

  override updated(): void {
    if (this.#pinned) this.#toEnd();
  }

  #toEnd(): void {
    const scroller = this.scroller;
    if (!scroller) return;
    scroller.scrollTop = scroller.scrollHeight;
    // Turns draw themselves a moment later.
    requestAnimationFrame(() => {
      if (this.#pinned) scroller.scrollTop = scroller.scrollHeight;
    });
  }

  #scrolled(): void {
    const scroller = this.scroller;
    if (!scroller) return;
    this.#pinned = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - NEAR_PX;
    this.away = !this.#pinned;
  }

  override render() {
    const thread = this.#thread;
    if (!thread) return nothing;
    const { conversation, turns, problem, loading, connection } = thread.state.value;
    if (problem && !conversation) {
      return html`<div class="trouble">
        <soma-problem .problem=${problem} .retry=${() => void thread.open()}></soma-problem>
        <p><a href="/chat">All conversations</a></p>
      </div>`;
    }
    const active = thread.active;
    return html`<div class="thread">
      ${this.#head(thread)}
      ${connection === "resuming"
        ? html`<div class="resuming" role="status">
            <span class="spin"></span>The connection dropped. Resuming where it stopped; the agent works on meanwhile.
          </div>`
        : nothing}
      <div class="turns" @scroll=${this.#scrolled} tabindex="0" role="log" aria-label="Messages" aria-busy=${loading}>
        <div class="column">
          ${turns.length > this.drawn
            ? html`<button class="plain earlier" @click=${() => (this.drawn += TURNS_DRAWN)}>
                ${turns.length - this.drawn} earlier
              </button>`
            : nothing}
          ${repeat(turns.slice(-this.drawn), (turn) => turn.run, (turn, index) => this.#turn(thread, turn, index))}
          ${problem ? html`<soma-problem .problem=${problem} .retry=${() => void thread.open()}></soma-problem>` : nothing}
          ${!loading && turns.length === 0
            ? html`<soma-empty heading="Nothing was said yet" text="Write the first message below."></soma-empty>`
            : nothing}
        </div>
      </div>
      <div class="foot">
        ${this.away
          ? html`<button class="latest" @click=${this.#latest}>${icon("down", 14)} Newest</button>`
          : nothing}
        ${can("conversation:send_message")
          ? html`<soma-composer
              .draft=${this.conversation}
              .busy=${this.busy}
              .running=${active !== undefined && can("conversation:update")}
              .stopping=${active?.state === "cancelling"}
              autofocus
              @send=${this.#send}
              @stop=${this.#stop}
            ></soma-composer>`
          : html`<p class="quiet small">Your roles let you read this conversation, not write in it.</p>`}
      </div>
    </div>`;
  }

  #turn(thread: Thread, turn: Thread["state"]["value"]["turns"][number], index: number) {
    const { runs, turns } = thread.state.value;
    const last = index === Math.min(turns.length, this.drawn) - 1;
    return html`<soma-turn
      .turn=${turn}
      .siblings=${siblings(runs, turn.run)}
      .branches=${runs.some((run) => run.parent_run_id !== undefined)}
      .last=${last}
      @seen=${() => void thread.enrich(turn)}
      @edit=${this.#edit}
      @regenerate=${() => void attempt(() => thread.regenerate(turn.run))}
      @branch=${(event: CustomEvent<string>) => void this.#branch(thread, event.detail)}
    ></soma-turn>`;
  }

  #head(thread: Thread) {
    const { conversation, turns } = thread.state.value;
    const title = conversation?.title || (turns[0]?.question ?? "").slice(0, 80) || "Untitled";
    const last = turns.at(-1);
    return html`<header>
      <a class="button plain icon back" href="/chat" aria-label="All conversations">${icon("left", 18)}</a>
      ${this.renaming
        ? html`<input
            aria-label="Title"
            maxlength="200"
            .value=${conversation?.title ?? ""}
            @keydown=${this.#renameKey}
            @blur=${(event: FocusEvent) => void this.#rename(event.target as HTMLInputElement)}
          />`
        : html`<h1 title=${title}>
            ${can("conversation:update")
              ? html`<button class="plain title" @click=${this.#startRename} title="Rename">${title}</button>`
              : title}
          </h1>`}
      <span class="actions">
        ${last
          ? html`<a class="button plain icon" href="/runs/${last.run}" aria-label="Inspect the last run" title="Inspect the last run">
              ${icon("timeline", 17)}
            </a>`
          : nothing}
        ${can("file:read")
          ? html`<button
              class="plain icon"
              aria-label="Files of the workspace"
              title="Files of the workspace"
              aria-pressed=${this.files}
              @click=${() => this.dispatchEvent(new CustomEvent("files"))}
            >
              ${icon("folder", 17)}
            </button>`
          : nothing}
      </span>
    </header>`;
  }

  async #startRename(): Promise<void> {
    this.renaming = true;
    await this.updateComplete;
    const field = this.renderRoot.querySelector<HTMLInputElement>("header input");
    field?.focus();
    field?.select();
  }

  #renameKey(event: KeyboardEvent): void {
    if (event.key === "Enter") void this.#rename(event.target as HTMLInputElement);
    else if (event.key === "Escape") this.renaming = false;
  }

  async #rename(field: HTMLInputElement): Promise<void> {
    if (!this.renaming) return;
    this.renaming = false;
    const title = field.value.trim();
    const thread = this.#thread;
    if (thread && title && title !== thread.state.value.conversation?.title) await attempt(() => thread.rename(title));
  }

  #latest(): void {
    this.#pinned = true;
    this.away = false;
    this.#toEnd();
  }

  async #send(event: CustomEvent<SendEvent>): Promise<void> {
    const { text, interrupt, sent } = event.detail;
    this.busy = true;
    this.#pinned = true;
    const stored = await attempt(async () => {
      await this.#thread?.send(text, { interrupt });
    });
    if (stored) sent();
    this.busy = false;
  }

  async #stop(): Promise<void> {
    const active = this.#thread?.active;
    if (active) await attempt(async () => this.#thread?.cancel(active));
  }

  async #edit(event: CustomEvent<EditEvent>): Promise<void> {
    const { run, text } = event.detail;
    this.#pinned = true;
    if (await attempt(async () => this.#thread?.send(text, { edited: run }))) setQuery({ leaf: undefined });
  }

  async #branch(thread: Thread, run: string): Promise<void> {
    const leaf = await thread.show(run);
    setQuery({ leaf });
  }
}
