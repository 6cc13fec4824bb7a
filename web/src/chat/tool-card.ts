// One tool call: what it was asked, what came out, how long it took, and who or what allowed it.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { base, buttons, tags } from "../styles/controls";
import { codeStyles } from "../styles/code";
import { duration, pretty } from "../text/format";
import { copy } from "../ui/code-block";
import { icon } from "../ui/icon";
import "./approval-card";
import type { ToolPart } from "./turn";

const STATUSES: Record<string, [label: string, look: string]> = {
  success: ["done", "good"],
  error: ["error", "bad"],
  timeout: ["took too long", "bad"],
  blocked: ["not allowed", "bad"],
  circuit_open: ["paused after failures", "warn"],
  unknown: ["outcome unknown", "warn"],
  cancelled: ["stopped", ""],
  rejected: ["rejected", "bad"],
};

const LINES_SHOWN = 12;

@customElement("soma-tool")
export class ToolCard extends LitElement {
  static override styles = [
    base,
    buttons,
    tags,
    codeStyles,
    css`
      details {
        border: 1px solid var(--line);
        border-radius: 8px;
        background: var(--raised);
        font-size: var(--text-s);
      }
      summary {
        display: flex;
        align-items: center;
        gap: 8px;
        min-height: 34px;
        padding: 0 10px;
        cursor: pointer;
        list-style: none;
        border-radius: 8px;
      }
      summary::-webkit-details-marker {
        display: none;
      }
      summary:hover {
        background: var(--hover);
      }
      .chevron {
        display: inline-flex;
        color: var(--ink-3);
        transition: rotate 0.12s;
      }
      details[open] .chevron {
        rotate: 90deg;
      }
      .name {
        font: 500 var(--text-s) / 1 var(--mono);
        flex: none;
      }
      .brief {
        flex: 1;
        min-width: 0;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
        color: var(--ink-3);
        font: 400 var(--text-xs) / 1.4 var(--mono);
      }
      .end {
        display: inline-flex;
        align-items: center;
        gap: 8px;
        margin-left: auto;
        color: var(--ink-3);
        font-size: var(--text-xs);
        font-variant-numeric: tabular-nums;
        white-space: nowrap;
      }
      .inside {
        display: grid;
        grid-template-columns: minmax(0, 1fr);
        gap: var(--s3);
        padding: 2px 12px 12px;
      }
      .inside h4 {
        display: flex;
        align-items: center;
        justify-content: space-between;
        margin: 0;
        font-size: var(--text-xs);
        font-weight: 520;
        color: var(--ink-3);
      }
      pre {
        max-height: 340px;
        overflow: auto;
        border-radius: var(--radius);
        background: var(--sunken);
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
      .decision {
        display: flex;
        gap: 8px;
        align-items: baseline;
        flex-wrap: wrap;
        color: var(--ink-2);
      }
      .running {
        width: 8px;
        height: 8px;
        border-radius: 50%;
        background: var(--accent);
        animation: pulse 1.2s ease-in-out infinite;
      }
      @keyframes pulse {
        50% {
          opacity: 0.25;
        }
      }
      soma-approval {
        margin-top: 8px;
      }
    `,
  ];

  @property({ attribute: false, hasChanged: () => true }) call!: ToolPart;
  /** The run is at work. */
  @property({ type: Boolean }) live = false;
  @state() private all = false;

  override render() {
    const part = this.call;
    const [label, look] = STATUSES[part.status ?? ""] ?? [part.status ?? "", ""];
    const pending = part.approval?.state === "pending";
    return html`<details>
        <summary>
          <span class="chevron">${icon("right", 13)}</span>
          <span class="name">${part.tool}</span>
          <span class="brief">${brief(part.input)}</span>
          <span class="end">
            ${part.durationMs !== undefined ? duration(part.durationMs) : nothing}
            ${part.status !== undefined
              ? html`<span class="tag ${look}">${label}</span>`
              : pending
                ? html`<span class="tag warn">waits for approval</span>`
                : this.live
                  ? html`<span class="running" role="img" aria-label="At work"></span>`
                  : nothing}
          </span>
        </summary>
        <div class="inside">
          ${part.decision ? this.#decision(part) : nothing} ${this.#block("Input", pretty(part.input))}
          ${part.output !== undefined ? this.#block("Output", pretty(part.output)) : nothing}
        </div>
      </details>
      ${part.approval ? html`<soma-approval .call=${part}></soma-approval>` : nothing}`;
  }

  #decision({ decision }: ToolPart) {
    if (!decision) return nothing;
    const look = decision.effect === "allow" ? "good" : decision.effect === "ask" ? "warn" : "bad";
    return html`<p class="decision">
      <span class="tag ${look}">${decision.effect}</span>
      <span>${decision.reason}</span>
      ${decision.revision
        ? html`<span class="quiet mono" title="Policy revision ${decision.revision}">policy ${decision.revision.slice(0, 12)}</span>`
        : nothing}
    </p>`;
  }

  #block(title: string, content: string) {
    const lines = content.split("\n");
    const long = lines.length > LINES_SHOWN && !this.all;
    const shown = long ? lines.slice(0, LINES_SHOWN).join("\n") : content;
    return html`<div>
      <h4>
        ${title}
        <button class="plain tiny" @click=${(event: Event) => void copy(content, event.currentTarget as HTMLElement)}>Copy</button>
      </h4>
      <pre tabindex="0" role="region" aria-label=${title}>${shown || "(nothing)"}</pre>
      ${long
        ? html`<button class="plain tiny" @click=${() => (this.all = true)}>${lines.length - LINES_SHOWN} more lines</button>`
        : nothing}
    </div>`;
  }
}

/** The input in one line: the values of its fields. */
function brief(input: unknown): string {
  let value = input;
  if (typeof value === "string") {
    try {
      value = JSON.parse(value);
    } catch {
      return input as string;
    }
  }
  if (value && typeof value === "object") {
    return Object.values(value)
      .map((one) => (typeof one === "string" ? one : JSON.stringify(one)))
      .join("  ")
      .replace(/\s+/g, " ")
      .slice(0, 160);
  }
  return String(value ?? "");
}
