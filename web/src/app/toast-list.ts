// Draws the notes of `toasts.ts`. They wait while the pointer or the focus is on them.
import { LitElement, css, html, nothing } from "lit";
import { customElement } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { base, buttons } from "../styles/controls";
import { icon } from "../ui/icon";
import { Watch } from "./store";
import { complain, dismiss, SHOWN_MS, toasts, type Toast } from "./toasts";

@customElement("soma-toasts")
export class ToastList extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      :host {
        position: fixed;
        z-index: 60;
        right: var(--s4);
        bottom: var(--s4);
        left: var(--s4);
        pointer-events: none;
      }
      ul {
        display: grid;
        gap: var(--s2);
        justify-items: end;
        list-style: none;
      }
      li {
        display: flex;
        align-items: center;
        gap: var(--s3);
        max-width: min(30rem, 100%);
        padding: 8px 8px 8px 14px;
        border-radius: 8px;
        background: var(--ink);
        color: var(--paper);
        font-size: var(--text-s);
        box-shadow: var(--shadow);
        pointer-events: auto;
        animation: rise 0.16s ease-out;
      }
      li.problem {
        background: var(--bad-soft);
        color: var(--bad);
        border: 1px solid color-mix(in srgb, var(--bad) 40%, transparent);
      }
      li button {
        color: inherit;
        background: transparent;
        border-color: color-mix(in srgb, currentColor 35%, transparent);
      }
      li button:hover:not(:disabled) {
        background: color-mix(in srgb, currentColor 14%, transparent);
      }
      li button.icon {
        border-color: transparent;
      }
      small {
        display: block;
        opacity: 0.85;
      }
      @keyframes rise {
        from {
          opacity: 0;
          transform: translateY(6px);
        }
      }
    `,
  ];

  #watch = new Watch(this, toasts);
  #timers = new Map<number, number>();

  override updated(): void {
    void this.#watch;
    for (const toast of toasts.value) if (!this.#timers.has(toast.id)) this.#start(toast.id);
  }

  #start(id: number): void {
    this.#timers.set(id, window.setTimeout(() => dismiss(id), SHOWN_MS));
  }

  #hold(id: number): void {
    window.clearTimeout(this.#timers.get(id));
  }

  override render() {
    return html`<ul role="status" aria-live="polite">
      ${repeat(toasts.value, (toast) => toast.id, (toast) => this.#toast(toast))}
    </ul>`;
  }

  #toast(toast: Toast) {
    return html`<li
      class=${toast.problem ? "problem" : ""}
      @pointerenter=${() => this.#hold(toast.id)}
      @pointerleave=${() => this.#start(toast.id)}
      @focusin=${() => this.#hold(toast.id)}
    >
      <span
        >${toast.text}
        ${toast.problem?.advice ? html`<small>${toast.problem.advice}</small>` : nothing}
        ${toast.problem?.requestId ? html`<small class="mono">Request ${toast.problem.requestId}</small>` : nothing}
      </span>
      ${toast.undo ? html`<button class="tiny" @click=${() => void this.#undo(toast)}>Undo</button>` : nothing}
      <button class="tiny icon" aria-label="Dismiss" @click=${() => dismiss(toast.id)}>${icon("close", 14)}</button>
    </li>`;
  }

  async #undo(toast: Toast): Promise<void> {
    dismiss(toast.id);
    try {
      await toast.undo?.();
    } catch (error) {
      complain(error);
    }
  }
}
