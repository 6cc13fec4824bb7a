// A problem where it happened: what went wrong, what to do, and the request's id for whoever looks into it.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property } from "lit/decorators.js";
import { asProblem } from "../api/problem";
import { base, buttons } from "../styles/controls";
import { icon } from "./icon";

@customElement("soma-problem")
export class ProblemNote extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      .note {
        display: grid;
        grid-template-columns: auto 1fr auto;
        gap: 2px var(--s3);
        align-items: start;
        padding: var(--s3);
        border-radius: var(--radius);
        background: var(--bad-soft);
        color: var(--bad);
        font-size: var(--text-s);
      }
      .more {
        color: var(--ink-2);
        margin-top: 2px;
      }
      svg {
        margin-top: 2px;
      }
    `,
  ];

  @property({ attribute: false }) problem: unknown = null;
  /** Offers "Try again". */
  @property({ attribute: false }) retry?: () => void;

  protected override willUpdate(): void {
    // Without a problem it takes no room, nor a gap.
    this.hidden = !this.problem;
  }

  override render() {
    if (!this.problem) return nothing;
    const problem = asProblem(this.problem);
    return html`<div class="note" role="alert">
      ${icon("warn")}
      <div>
        <div>${problem.message}</div>
        ${problem.advice || problem.requestId
          ? html`<div class="more">
              ${problem.advice}
              ${problem.requestId ? html`<span class="mono">Request ${problem.requestId}</span>` : nothing}
            </div>`
          : nothing}
      </div>
      ${this.retry ? html`<button class="tiny" @click=${this.retry}>Try again</button>` : nothing}
    </div>`;
  }
}
