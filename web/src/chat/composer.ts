// Where messages are written. Enter sends, Shift+Enter makes a line; what was not sent is kept as a draft.
import { LitElement, css, html, nothing, type PropertyValues } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import { remember, remembered } from "../app/storage";
import { base, buttons } from "../styles/controls";
import { icon } from "../ui/icon";

export interface SendEvent {
  text: string;
  interrupt: boolean;
  /** To be called once the server has the message: the draft goes. */
  sent: () => void;
}

/** The server takes this many bytes of text. */
const BYTES_MAX = 262_144;
const HEIGHT_MAX = 260;

@customElement("soma-composer")
export class Composer extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      .box {
        display: grid;
        border: 1px solid var(--line-strong);
        border-radius: var(--radius-l);
        background: var(--raised);
        box-shadow: 0 1px 2px rgb(27 33 31 / 0.05);
      }
      .box:focus-within {
        border-color: var(--accent);
        box-shadow: 0 0 0 1px var(--accent);
      }
      textarea {
        width: 100%;
        min-height: 44px;
        max-height: 260px;
        padding: 11px 14px 4px;
        border: 0;
        outline: 0;
        background: transparent;
        color: var(--ink);
        font: 400 var(--text-l) / 1.5 var(--sans);
        resize: none;
      }
      /* The box shows the focus. */
      textarea:focus-visible {
        outline: 0;
      }
      ::placeholder {
        color: var(--ink-3);
        opacity: 1;
      }
      .below {
        display: flex;
        align-items: center;
        justify-content: space-between;
        gap: var(--s2);
        padding: 4px 6px 6px 14px;
      }
      .hint {
        font-size: var(--text-xs);
        color: var(--ink-3);
      }
      .actions {
        display: flex;
        gap: 6px;
        margin-left: auto;
      }
      .wrong {
        color: var(--bad);
      }
      @media (max-width: 760px) {
        .hint:not(.wrong) {
          display: none;
        }
        textarea {
          font-size: 16px;
        }
      }
    `,
  ];

  /** The name under which the draft is kept. */
  @property() draft = "";
  @property({ type: Boolean }) busy = false;
  /** A run is at work: it can be stopped, and a message waits behind it. */
  @property({ type: Boolean }) running = false;
  @property({ type: Boolean }) stopping = false;
  @property({ type: Boolean }) override autofocus = false;
  @state() private text = "";
  @query("textarea") private field!: HTMLTextAreaElement;

  protected override willUpdate(changed: PropertyValues): void {
    if (changed.has("draft")) this.text = remembered(`draft.${this.draft}`);
  }

  override firstUpdated(): void {
    if (this.autofocus && matchMedia("(hover: hover)").matches) this.field.focus();
  }

  override updated(): void {
    if (this.field.value !== this.text) this.field.value = this.text;
    this.field.style.height = "auto";
    this.field.style.height = `${Math.min(this.field.scrollHeight, HEIGHT_MAX)}px`;
  }

  override focus(): void {
    this.field.focus();
  }

  override render() {
    const long = new Blob([this.text]).size > BYTES_MAX;
    const empty = !this.text.trim();
    return html`<div class="box">
      <textarea
        rows="1"
        aria-label="Message"
        placeholder=${this.running ? "Write the next message" : "Write a message"}
        @input=${this.#typed}
        @keydown=${this.#key}
      ></textarea>
      <div class="below">
        <span class="hint ${long ? "wrong" : ""}" role=${long ? "alert" : nothing}>
          ${long
            ? "This is longer than a message can be (256 KB). Put it in a file of the workspace."
            : this.running && !empty
              ? "Enter: after this answer"
              : "Enter sends, Shift+Enter makes a line"}
        </span>
        <span class="actions">
          ${this.running
            ? html`<button @click=${this.#stop} ?disabled=${this.stopping}>
                  ${icon("stop", 14)} ${this.stopping ? "Stopping…" : "Stop"}
                </button>
                ${empty ? nothing : html`<button @click=${() => this.#send(true)} ?disabled=${long}>Interrupt</button>`}`
            : nothing}
          ${this.running && empty
            ? nothing
            : html`<button
                class="primary icon"
                aria-label="Send"
                title="Send"
                ?disabled=${empty || long || this.busy}
                @click=${() => this.#send(false)}
              >
                ${icon("send")}
              </button>`}
        </span>
      </div>
    </div>`;
  }

  #typed(): void {
    this.text = this.field.value;
    remember(`draft.${this.draft}`, this.text);
  }

  #key(event: KeyboardEvent): void {
    // While an input method composes, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send(false);
  }

  #stop(): void {
    this.dispatchEvent(new CustomEvent("stop"));
  }

  #send(interrupt: boolean): void {
    const text = this.text;
    if (!text.trim() || this.busy || new Blob([text]).size > BYTES_MAX) return;
    const draft = this.draft;
    const sent = () => {
      remember(`draft.${draft}`, "");
      if (this.draft === draft && this.text === text) this.text = "";
    };
    this.dispatchEvent(new CustomEvent<SendEvent>("send", { detail: { text, interrupt, sent } }));
  }
}
