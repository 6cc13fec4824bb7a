// The inbox of approvals: tool calls that wait for a person, and what was decided.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { api } from "../api/client";
import type { Approval } from "../api/types";
import { countApprovals, pendingApprovals } from "../app/badge";
import { nameOf, names, readNames } from "../app/names";
import { Watch } from "../app/store";
import "../chat/approval-card";
import type { ToolPart } from "../chat/turn";
import { page } from "../styles/controls";
import { ago } from "../text/format";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";

function asPart(approval: Approval): ToolPart {
  return {
    kind: "tool",
    id: approval.call_id,
    tool: approval.tool,
    input: approval.arguments,
    approval: {
      id: approval.id,
      arguments: approval.arguments,
      hash: approval.arguments_hash,
      expiresAt: approval.expires_at,
      state: approval.state,
      decidedBy: approval.decided_by ? nameOf(approval.decided_by) : "",
      reason: approval.decision_reason ?? "",
    },
  };
}

@customElement("soma-approvals")
export class ApprovalsPage extends LitElement {
  static override styles = [
    page,
    css`
      ul {
        display: grid;
        gap: var(--s4);
        list-style: none;
        max-width: 52rem;
      }
      .about {
        display: flex;
        flex-wrap: wrap;
        gap: 4px 12px;
        margin-bottom: 6px;
        font-size: var(--text-s);
        color: var(--ink-3);
      }
    `,
  ];

  @state() private shown: "pending" | "decided" = "pending";
  #read = new Loader(this, () => api.all<Approval>("/approvals", { state: this.shown }));
  #watch = new Watch(this, names, pendingApprovals);
  #unsubscribe = () => {};

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void readNames();
    this.#unsubscribe = pendingApprovals.subscribe(() => void this.#read.reload());
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#unsubscribe();
  }

  override render() {
    const { value, problem } = this.#read;
    return html`<soma-head
        heading="Approvals"
        text="Tool calls that an agent may make only when a person says so. A run waits, for days if need be, and goes on where it stopped."
      >
        <button aria-pressed=${this.shown === "pending"} class=${this.shown === "pending" ? "primary" : ""} @click=${() => this.#show("pending")}>
          Waiting
        </button>
        <button aria-pressed=${this.shown === "decided"} class=${this.shown === "decided" ? "primary" : ""} @click=${() => this.#show("decided")}>
          Decided
        </button>
      </soma-head>
      <soma-problem .problem=${problem} .retry=${this.#read.reload}></soma-problem>
      <ul @decided=${this.#decided}>
        ${repeat(value ?? [], (approval) => approval.id, (approval) => this.#item(approval))}
      </ul>
      ${value?.length === 0
        ? html`<soma-empty
            heading=${this.shown === "pending" ? "Nothing waits" : "Nothing was decided yet"}
            text="Which tools ask is set for each agent, under Agents."
          ></soma-empty>`
        : nothing}`;
  }

  #item(approval: Approval) {
    const decided = approval.state !== "pending";
    return html`<li>
      <p class="about">
        ${decided ? html`<strong class="mono">${approval.tool}</strong>` : nothing}
        <span>asked for by ${nameOf(approval.requested_by)}, ${ago(approval.requested_at)}</span>
        <span>${approval.reason}</span>
        <a href="/chat/${approval.conversation_id}">Conversation</a>
        <a href="/runs/${approval.run_id}">Run</a>
      </p>
      <soma-approval .call=${asPart(approval)}></soma-approval>
    </li>`;
  }

  #show(which: "pending" | "decided"): void {
    this.shown = which;
    void this.#read.reload();
  }

  #decided(): void {
    void countApprovals();
    void this.#read.reload();
  }
}
