// What a list shows while there is nothing in it, and what can be done about that.
import { LitElement, css, html } from "lit";
import { customElement, property } from "lit/decorators.js";
import { base } from "../styles/controls";

@customElement("soma-empty")
export class Empty extends LitElement {
  static override styles = [
    base,
    css`
      div {
        padding: var(--s6) var(--s4);
        text-align: center;
        color: var(--ink-3);
        font-size: var(--text-s);
        text-wrap: balance;
      }
      strong {
        display: block;
        margin-bottom: 4px;
        font-size: var(--text-l);
        font-weight: 560;
        color: var(--ink-2);
      }
      ::slotted(*) {
        margin-top: var(--s3) !important;
      }
    `,
  ];

  @property() heading = "";
  @property() text = "";

  override render() {
    return html`<div><strong>${this.heading}</strong>${this.text}<br /><slot></slot></div>`;
  }
}
