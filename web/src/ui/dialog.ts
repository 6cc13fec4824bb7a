// A window over the page, on the browser's own <dialog>: it keeps the focus, and Escape closes it.
import { LitElement, css, html } from "lit";
import { customElement, property, query } from "lit/decorators.js";
import { base, buttons } from "../styles/controls";
import { icon } from "./icon";

@customElement("soma-dialog")
export class Dialog extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      dialog {
        width: min(34rem, calc(100vw - 24px));
        max-height: calc(100dvh - 32px);
        padding: 0;
        border: 1px solid var(--line);
        border-radius: 12px;
        background: var(--raised);
        color: var(--ink);
        box-shadow: var(--shadow);
        overflow: auto;
      }
      :host([wide]) dialog {
        width: min(60rem, calc(100vw - 24px));
      }
      dialog::backdrop {
        background: var(--scrim);
      }
      header {
        display: flex;
        align-items: center;
        justify-content: space-between;
        gap: var(--s3);
        padding: var(--s3) var(--s3) 0 var(--s5);
        position: sticky;
        top: 0;
        background: var(--raised);
        z-index: 1;
      }
      .body {
        padding: var(--s2) var(--s5) var(--s5);
      }
    `,
  ];

  @property() heading = "";
  @query("dialog") private dialog!: HTMLDialogElement;

  override firstUpdated(): void {
    this.dialog.showModal();
  }

  close(): void {
    this.dialog.close();
  }

  override render() {
    return html`<dialog aria-label=${this.heading} @close=${this.#closed} @mousedown=${this.#outside}>
      <header>
        <h2>${this.heading}</h2>
        <button class="plain icon" aria-label="Close" @click=${this.close}>${icon("close")}</button>
      </header>
      <div class="body"><slot></slot></div>
    </dialog>`;
  }

  #closed(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }

  /** A press on the backdrop closes; one that began inside does not. */
  #outside(event: MouseEvent): void {
    if (event.target !== this.dialog) return;
    const box = this.dialog.getBoundingClientRect();
    const inside =
      event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) this.close();
  }
}
