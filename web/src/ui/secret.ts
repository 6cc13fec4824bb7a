// Something that is shown this once: a key, a link, backup codes.
import { LitElement, css, html } from "lit";
import { customElement, property } from "lit/decorators.js";
import { base, buttons } from "../styles/controls";
import { copy } from "./code-block";

@customElement("soma-secret")
export class Secret extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      div {
        display: flex;
        gap: var(--s2);
        align-items: center;
      }
      code {
        flex: 1;
        padding: 8px 10px;
        border-radius: var(--radius);
        background: var(--sunken);
        overflow-wrap: anywhere;
        white-space: pre-wrap;
        user-select: all;
      }
      p {
        margin-bottom: var(--s3);
        font-size: var(--text-s);
        color: var(--ink-2);
      }
    `,
  ];

  @property() value = "";
  @property() text = "";

  override render() {
    return html`<p>${this.text}</p>
      <div>
        <code>${this.value}</code>
        <button @click=${(event: Event) => void copy(this.value, event.currentTarget as HTMLElement)}>Copy</button>
      </div>`;
  }
}
