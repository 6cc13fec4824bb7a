// The head of a page: its title, what it is about, and what can be done there.
import { LitElement, css, html } from "lit";
import { customElement, property } from "lit/decorators.js";
import { base } from "../styles/controls";

@customElement("soma-head")
export class PageHead extends LitElement {
  static override styles = [
    base,
    css`
      header {
        display: flex;
        align-items: flex-start;
        justify-content: space-between;
        flex-wrap: wrap;
        gap: var(--s3);
        margin-bottom: var(--s5);
      }
      p {
        max-width: 68ch;
        text-wrap: pretty;
        margin-top: 3px;
        color: var(--ink-3);
        font-size: var(--text-s);
      }
      .actions {
        display: flex;
        gap: var(--s2);
        flex-wrap: wrap;
      }
    `,
  ];

  @property() heading = "";
  @property() text = "";

  override render() {
    return html`<header>
      <div>
        <h1>${this.heading}</h1>
        <p>${this.text}</p>
      </div>
      <div class="actions"><slot></slot></div>
    </header>`;
  }
}
