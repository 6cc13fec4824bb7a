// What was used and what it cost, by day, agent, user or model.
import { LitElement, css, html, nothing, svg } from "lit";
import { customElement } from "lit/decorators.js";
import { api } from "../api/client";
import type { UsageRow } from "../api/types";
import { location, setQuery } from "../app/router";
import { page } from "../styles/controls";
import { count, money } from "../text/format";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";

const GROUPS = ["day", "agent", "user", "model"] as const;
const DAYS = [7, 30, 90];
const DAY_MS = 86_400_000;

@customElement("soma-usage")
export class UsagePage extends LitElement {
  static override styles = [
    page,
    css`
      .chosen {
        background: var(--accent-soft);
        border-color: var(--accent);
        color: var(--accent-ink);
      }
      .group {
        text-transform: capitalize;
      }
      .controls {
        display: flex;
        flex-wrap: wrap;
        gap: var(--s2) var(--s5);
        margin-bottom: var(--s4);
      }
      svg {
        display: block;
        width: 100%;
        height: 8px;
      }
      rect {
        fill: var(--accent);
      }
      td.bar {
        width: 30%;
        min-width: 100px;
      }
      tfoot td {
        border-top: 1px solid var(--line-strong);
        font-weight: 560;
      }
    `,
  ];

  #read = new Loader(this, () => {
    const from = new Date(Date.now() - this.#days() * DAY_MS).toISOString();
    return api.all<UsageRow>("/usage", { by: this.#group(), from, limit: undefined });
  });

  #group(): string {
    return location.value.query.get("by") ?? "day";
  }

  #days(): number {
    return Number(location.value.query.get("days") ?? 30) || 30;
  }

  #choose(name: string, value: string): void {
    setQuery({ [name]: value });
    void this.#read.reload();
  }

  override render() {
    const { value, problem, reload } = this.#read;
    const option = (name: string, value: string, label: string, chosen: boolean) =>
      html`<button class="tiny ${chosen ? "chosen" : ""}" aria-pressed=${chosen} @click=${() => this.#choose(name, value)}>${label}</button>`;
    return html`<soma-head heading="Usage" text="Runs, tokens and what they cost. Sums are settled per model call."></soma-head>
      <div class="controls">
        <span class="row" role="group" aria-label="By">${GROUPS.map((group) => option("by", group, `By ${group}`, group === this.#group()))}</span>
        <span class="row" role="group" aria-label="Time">${DAYS.map((days) => option("days", String(days), `${days} days`, days === this.#days()))}</span>
      </div>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value?.length === 0 ? html`<soma-empty heading="Nothing was used" text="There was no run in this time."></soma-empty>` : nothing}
      ${value?.length ? this.#table(value) : nothing}`;
  }

  #table(rows: UsageRow[]) {
    const most = Math.max(1, ...rows.map((row) => row.input_tokens + row.output_tokens));
    const sum = (field: "runs" | "input_tokens" | "output_tokens" | "cost_micros") =>
      rows.reduce((total, row) => total + row[field], 0);
    return html`<div class="table">
      <table>
        <thead>
          <tr><th class="group">${this.#group()}</th><th>Tokens</th><th class="number">Runs</th><th class="number">In</th><th class="number">Out</th><th class="number">Cost</th></tr>
        </thead>
        <tbody>
          ${rows.map((row) => {
            const width = ((row.input_tokens + row.output_tokens) / most) * 100;
            return html`<tr>
              <td>${row.label || row.key}</td>
              <td class="bar">
                <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">${svg`<rect width=${width} height="8"></rect>`}</svg>
              </td>
              <td class="number">${count(row.runs)}</td>
              <td class="number">${count(row.input_tokens)}</td>
              <td class="number">${count(row.output_tokens)}</td>
              <td class="number">${money(row.cost_micros)}</td>
            </tr>`;
          })}
        </tbody>
        <tfoot>
          <tr>
            <td colspan="2">All</td>
            <td class="number">${count(sum("runs"))}</td>
            <td class="number">${count(sum("input_tokens"))}</td>
            <td class="number">${count(sum("output_tokens"))}</td>
            <td class="number">${money(sum("cost_micros"))}</td>
          </tr>
        </tfoot>
      </table>
    </div>`;
  }
}
