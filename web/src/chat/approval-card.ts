// A tool call that waits for a person: its exact arguments, and approve, edit or reject. What is approved is bound to
// the hash of what was shown.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import { countApprovals } from "../app/badge";
import { can } from "../app/session";
import { base, buttons, fields, tags } from "../styles/controls";
import { codeStyles } from "../styles/code";
import { ago, moment, pretty } from "../text/format";
import { icon } from "../ui/icon";
import "../ui/problem-note";
import type { ApprovalView, ToolPart } from "./turn";

const DECIDED: Record<ApprovalView["state"], [label: string, look: string]> = {
  pending: ["waits", "warn"],
  approved: ["approved", "good"],
  rejected: ["rejected", "bad"],
  expired: ["nobody decided in time", ""],
  cancelled: ["the run ended first", ""],
};

@customElement("soma-approval")
export class ApprovalCard extends LitElement {
  static override styles = [
    base,
    buttons,
    fields,
    tags,
    codeStyles,
    css`
      section {
        display: grid;
        grid-template-columns: minmax(0, 1fr);
        gap: var(--s3);
        padding: var(--s3) var(--s4) var(--s4);
        border: 1px solid color-mix(in srgb, var(--warn) 40%, transparent);
        border-left-width: 3px;
        border-radius: 8px;
        background: color-mix(in srgb, var(--warn-soft) 45%, var(--raised));
        font-size: var(--text-s);
      }
      h3 {
        display: flex;
        align-items: center;
        gap: 8px;
        color: var(--warn);
      }
      pre {
        max-height: 320px;
        overflow: auto;
        border: 1px solid var(--line);
        border-radius: var(--radius);
        background: var(--raised);
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
      .decided {
        display: flex;
        align-items: baseline;
        gap: 8px;
        flex-wrap: wrap;
        padding: 2px 0;
        font-size: var(--text-s);
        color: var(--ink-2);
      }
    `,
  ];

  @property({ attribute: false, hasChanged: () => true }) call!: ToolPart;
  @state() private mode: "show" | "edit" | "reject" = "show";
  @state() private busy = false;
  @state() private problem: Problem | null = null;
  @state() private wrong = "";

  override render() {
    const approval = this.call.approval;
    if (!approval) return nothing;
    if (approval.state !== "pending") return this.#decided(approval);
    return html`<section aria-label="Approval of ${this.call.tool}">
      <h3>${icon("stamp")} ${this.call.tool} needs approval</h3>
      ${this.mode === "edit" ? this.#editor(approval) : this.#arguments(approval)}
      ${this.problem ? html`<soma-problem .problem=${this.problem}></soma-problem>` : nothing}
      ${can("tool:approve")
        ? this.#actions(approval)
        : html`<p class="quiet">Somebody who may approve tool calls has to decide. You can leave: the run waits.</p>`}
      <p class="quiet">
        Waits until ${moment(approval.expiresAt)}, ${ago(approval.expiresAt)}.
        <span class="mono" title="Hash of the arguments: ${approval.hash}">#${approval.hash.slice(0, 12)}</span>
      </p>
    </section>`;
  }

  #decided(approval: ApprovalView) {
    const [label, look] = DECIDED[approval.state];
    return html`<p class="decided">
      <span class="tag ${look}">${label}</span>
      ${approval.decidedBy ? html`<span>by <span class="mono">${approval.decidedBy.slice(0, 13)}</span></span>` : nothing}
      ${approval.reason ? html`<span>“${approval.reason}”</span>` : nothing}
    </p>`;
  }

  #arguments(approval: ApprovalView) {
    return html`<pre tabindex="0" role="region" aria-label="Arguments">${pretty(approval.arguments)}</pre>`;
  }

  #editor(approval: ApprovalView) {
    return html`<label
      >Arguments, as JSON<textarea class="code" name="arguments" rows="8" spellcheck="false" .value=${pretty(approval.arguments)}></textarea>
      ${this.wrong ? html`<span class="wrong" role="alert">${this.wrong}</span>` : nothing}
    </label>`;
  }

  #actions(approval: ApprovalView) {
    if (this.mode === "reject") {
      return html`<form @submit=${(event: SubmitEvent) => this.#reject(event, approval)}>
        <label
          >Why not? The agent is told.<textarea name="reason" rows="2" required maxlength="1000"></textarea>
        </label>
        <div class="row">
          <button type="submit" class="danger" ?disabled=${this.busy}>Reject</button>
          <button type="button" class="plain" @click=${() => (this.mode = "show")}>Back</button>
        </div>
      </form>`;
    }
    return html`<div class="row">
      <button class="primary" ?disabled=${this.busy} @click=${() => void this.#approve(approval)}>
        ${this.mode === "edit" ? "Approve as edited" : "Approve"}
      </button>
      ${this.mode === "edit"
        ? html`<button class="plain" @click=${() => (this.mode = "show")}>Back</button>`
        : html`<button ?disabled=${this.busy} @click=${() => (this.mode = "edit")}>Edit</button>
            <button class="danger" ?disabled=${this.busy} @click=${() => (this.mode = "reject")}>Reject</button>`}
    </div>`;
  }

  async #approve(approval: ApprovalView): Promise<void> {
    const body: Record<string, unknown> = { decision: "approve", arguments_hash: approval.hash };
    if (this.mode === "edit") {
      const field = this.renderRoot.querySelector<HTMLTextAreaElement>('[name="arguments"]');
      try {
        body.arguments = JSON.parse(field?.value ?? "");
      } catch (error) {
        this.wrong = `This is not JSON: ${error instanceof Error ? error.message : error}`;
        return;
      }
    }
    await this.#decide(approval, body, "approved");
  }

  async #reject(event: SubmitEvent, approval: ApprovalView): Promise<void> {
    event.preventDefault();
    const reason = String(new FormData(event.currentTarget as HTMLFormElement).get("reason") ?? "");
    await this.#decide(approval, { decision: "reject", arguments_hash: approval.hash, reason }, "rejected");
  }

  async #decide(approval: ApprovalView, body: unknown, state: ApprovalView["state"]): Promise<void> {
    this.busy = true;
    this.problem = null;
    this.wrong = "";
    try {
      await api.post(`/approvals/${approval.id}/decide`, body);
      // The run's events tell the rest.
      if (this.call.approval === approval) this.call.approval = { ...approval, state };
      this.dispatchEvent(new CustomEvent("decided", { bubbles: true, composed: true }));
      void countApprovals();
    } catch (error) {
      this.problem = asProblem(error);
    } finally {
      this.busy = false;
      this.mode = "show";
    }
  }
}
