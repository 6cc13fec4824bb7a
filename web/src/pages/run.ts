// The run inspector: every step in its order, how long it took, how often it was tried, what it cost, what was decided.
import { LitElement, css, html, nothing, svg } from "lit";
import { customElement, property } from "lit/decorators.js";
import { api } from "../api/client";
import type { Run, Step } from "../api/types";
import { page } from "../styles/controls";
import { count, duration, moment, money } from "../text/format";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";

const LOOKS: Record<string, string> = { completed: "good", failed: "bad", cancelled: "", started: "info" };
/** A bar that is too short to be seen says nothing. */
const BAR_MIN_PERCENT = 0.6;

@customElement("soma-run")
export class RunPage extends LitElement {
  static override styles = [
    page,
    css`
      dl {
        display: grid;
        grid-template-columns: repeat(auto-fit, minmax(10rem, auto));
        gap: 1px;
        margin-bottom: var(--s5);
        border: 1px solid var(--line);
        border-radius: var(--radius-l);
        overflow: hidden;
        background: var(--line);
      }
      dl div {
        padding: 10px 14px;
        background: var(--raised);
      }
      dt {
        font-size: var(--text-xs);
        color: var(--ink-3);
      }
      dd {
        font-size: var(--text-l);
        font-weight: 560;
        font-variant-numeric: tabular-nums;
        overflow-wrap: anywhere;
      }
      svg {
        display: block;
        width: 100%;
        min-width: 140px;
        height: 8px;
        background: var(--sunken);
      }
      rect {
        fill: var(--accent);
      }
      rect.tool {
        fill: var(--info);
      }
      rect.failed {
        fill: var(--bad);
      }
      .reason {
        color: var(--ink-3);
        font-size: var(--text-xs);
      }
    `,
  ];

  @property() run = "";
  #read = new Loader(this, async () => {
    const [run, steps] = await Promise.all([api.get<Run>(`/runs/${this.run}`), api.all<Step>(`/runs/${this.run}/steps`)]);
    return { run, steps };
  });

  override render() {
    const { value, problem, reload } = this.#read;
    return html`<soma-head heading="Run" text=${this.run}>
        ${value ? html`<a class="button" href="/chat/${value.run.conversation_id}">Conversation</a>` : nothing}
        <button @click=${reload}>Read again</button>
      </soma-head>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value ? html`${this.#facts(value.run)} ${this.#steps(value.steps)}` : nothing}`;
  }

  #facts(run: Run) {
    const end = run.finished_at ? new Date(run.finished_at).getTime() : Date.now();
    const took = run.started_at ? duration(end - new Date(run.started_at).getTime()) : "—";
    const facts: [string, unknown][] = [
      ["State", html`<span class="tag ${LOOKS[run.state] ?? "info"}">${run.state}</span>`],
      ["Began", html`<span class="small">${moment(run.started_at)}</span>`],
      ["Took", took],
      ["Tokens in", count(run.usage.input_tokens)],
      ["Tokens out", count(run.usage.output_tokens)],
      ["Cost", money(run.cost_micros)],
    ];
    return html`<dl>
        ${facts.map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
      </dl>
      ${run.error ? html`<p class="wrong">${run.error.message} <span class="mono">${run.error.code}</span></p>` : nothing}`;
  }

  #steps(steps: Step[]) {
    if (steps.length === 0) return html`<soma-empty heading="No step has begun" text="The run waits its turn."></soma-empty>`;
    const times = steps.flatMap((step) => [step.started_at, step.ended_at].filter((time): time is string => !!time));
    const from = Math.min(...times.map((time) => new Date(time).getTime()));
    const span = Math.max(1, Math.max(...times.map((time) => new Date(time).getTime())) - from);
    return html`<div class="table">
      <table>
        <thead>
          <tr>
            <th class="number">#</th>
            <th>Step</th>
            <th>Timeline</th>
            <th class="number">Took</th>
            <th>State</th>
            <th class="number">Tokens</th>
            <th class="number">Cost</th>
            <th>Decision</th>
          </tr>
        </thead>
        <tbody>
          ${steps.map((step) => this.#step(step, from, span))}
        </tbody>
      </table>
    </div>`;
  }

  #step(step: Step, from: number, span: number) {
    const start = step.started_at ? new Date(step.started_at).getTime() : from;
    const end = step.ended_at ? new Date(step.ended_at).getTime() : start;
    // Attributes, since the content security policy lets no style in with the markup.
    const width = Math.max(BAR_MIN_PERCENT, ((end - start) / span) * 100);
    const left = Math.min(((start - from) / span) * 100, 100 - width);
    const look = `${step.tool ? "tool" : ""} ${step.state === "failed" ? "failed" : ""}`;
    const decision = step.decision;
    const answer = decision?.effect === "allow" ? "good" : decision?.effect === "ask" ? "warn" : "bad";
    const tokens = (step.input_tokens ?? 0) + (step.output_tokens ?? 0);
    return html`<tr>
      <td class="number quiet">${step.ordinal}</td>
      <td>
        <span class="mono">${step.tool ?? step.name}</span>
        ${step.attempt > 1 ? html`<span class="tag warn">attempt ${step.attempt}</span>` : nothing}
        <div class="reason">${step.tool ? `${step.name}, ` : ""}${step.effect.replaceAll("_", " ")}</div>
      </td>
      <td>
        <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">
          ${svg`<rect class=${look} x=${left} width=${width} height="8"></rect>`}
        </svg>
      </td>
      <td class="number">${step.ended_at ? duration(end - start) : "…"}</td>
      <td>
        <span class="tag ${LOOKS[step.state] ?? ""}">${step.state}</span>
        ${step.status && step.status !== "success" ? html`<span class="tag bad">${step.status}</span>` : nothing}
      </td>
      <td class="number">${tokens > 0 ? count(tokens) : nothing}</td>
      <td class="number">${step.cost_micros ? money(step.cost_micros) : nothing}</td>
      <td>
        ${decision
          ? html`<span class="tag ${answer}">${decision.effect}</span>
              <div class="reason">
                ${decision.reason}
                <span class="mono">${(decision.revision ?? decision.policy_revision ?? "").slice(0, 12)}</span>
              </div>`
          : nothing}
      </td>
    </tr>`;
  }
}
