// The audit: who did what, or was refused, why, by which policy. Filtered, verified, exported.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { address, api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { AuditEntry, Page } from "../api/types";
import { nameOf, names, readNames } from "../app/names";
import { location, setQuery } from "../app/router";
import { can } from "../app/session";
import { Watch } from "../app/store";
import { page } from "../styles/controls";
import { moment, pretty } from "../text/format";
import "../ui/empty";
import "../ui/page-head";
import "../ui/problem-note";

interface Verification {
  ok: boolean;
  entries: number;
  head: string;
  broken_at?: number;
  problem?: string;
}

const FILTERS = ["q", "action", "effect", "resource_type", "from", "to"] as const;

@customElement("soma-audit")
export class AuditPage extends LitElement {
  static override styles = [
    page,
    css`
      form {
        display: grid;
        grid-template-columns: repeat(auto-fill, minmax(min(100%, 13.5rem), 1fr));
        gap: var(--s3);
        align-items: end;
        margin-bottom: var(--s4);
      }
      form button {
        justify-self: start;
      }
      .verdict {
        margin-bottom: var(--s4);
        padding: var(--s3);
        border-radius: var(--radius);
        background: var(--good-soft);
        color: var(--good);
        font-size: var(--text-s);
        overflow-wrap: anywhere;
      }
      .verdict.bad {
        background: var(--bad-soft);
        color: var(--bad);
      }
      pre {
        max-width: 60rem;
        padding: 8px 12px;
        border-radius: var(--radius);
        background: var(--sunken);
        font: 400 var(--text-xs) / 1.5 var(--mono);
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
      summary {
        cursor: pointer;
      }
      .more {
        margin-top: var(--s3);
      }
      td {
        vertical-align: top;
        white-space: nowrap;
      }
      /* The reason has the room that the others leave, in as many lines as it needs. */
      td:last-child {
        width: 100%;
        min-width: 13rem;
        max-width: none;
        white-space: normal;
        overflow-wrap: anywhere;
      }
      table {
        width: 100%;
      }
    `,
  ];

  @state() private entries: AuditEntry[] | null = null;
  @state() private cursor: string | null = null;
  @state() private problem: Problem | null = null;
  @state() private verdict: Verification | null = null;
  #watch = new Watch(this, names);

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void readNames();
    void this.#load();
  }

  #filters(): Record<string, string> {
    const query = location.value.query;
    return Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]).filter(([, value]) => value));
  }

  async #load(cursor?: string): Promise<void> {
    const { from, to, ...rest } = this.#filters();
    const query = {
      ...rest,
      from: from ? new Date(from).toISOString() : undefined,
      to: to ? new Date(to).toISOString() : undefined,
      cursor,
    };
    try {
      const read = await api.get<Page<AuditEntry>>("/audit", query);
      this.entries = cursor ? [...(this.entries ?? []), ...read.items] : read.items;
      this.cursor = read.next_cursor ?? null;
      this.problem = null;
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  override render() {
    return html`<soma-head
        heading="Audit"
        text="Every change and every refusal, in a chain of hashes that shows if a row was changed or taken out."
      >
        <button @click=${this.#verify}>Verify the chain</button>
        ${can("audit:export")
          ? html`<a class="button" download href=${address("/audit/export", { format: "csv" })}>CSV</a>
              <a class="button" download href=${address("/audit/export", { format: "jsonl" })}>JSONL</a>`
          : nothing}
      </soma-head>
      ${this.verdict ? this.#verdict(this.verdict) : nothing} ${this.#form()}
      <soma-problem .problem=${this.problem} .retry=${() => void this.#load()}></soma-problem>
      ${this.entries?.length === 0 ? html`<soma-empty heading="Nothing found" text="No entry fits these filters."></soma-empty>` : nothing}
      ${this.entries?.length ? this.#table(this.entries) : nothing}
      ${this.cursor
        ? html`<button class="more" @click=${() => void this.#load(this.cursor ?? undefined)}>Earlier</button>`
        : nothing}`;
  }

  #verdict({ ok, entries, head, broken_at, problem }: Verification) {
    return ok
      ? html`<p class="verdict" role="status">The chain of ${entries} entries is whole. Its head: <span class="mono">${head}</span></p>`
      : html`<p class="verdict bad" role="alert">The chain is broken at entry ${broken_at}. ${problem}</p>`;
  }

  #form() {
    const kept = this.#filters();
    const field = (name: string, label: string, type = "text") =>
      html`<label>${label}<input name=${name} type=${type} .value=${kept[name] ?? ""} /></label>`;
    return html`<form role="search" @submit=${this.#filter}>
      ${field("q", "Words", "search")} ${field("action", "Action")}
      <label
        >Effect<select name="effect">
          ${["", "allow", "deny", "ask"].map(
            (effect) => html`<option value=${effect} ?selected=${(kept.effect ?? "") === effect}>${effect || "any"}</option>`,
          )}
        </select></label
      >
      ${field("resource_type", "Kind of thing")} ${field("from", "From", "datetime-local")} ${field("to", "To", "datetime-local")}
      <button type="submit" class="primary">Filter</button>
    </form>`;
  }

  #filter(event: SubmitEvent): void {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    setQuery(Object.fromEntries(FILTERS.map((name) => [name, String(form.get(name) ?? "") || undefined])));
    void this.#load();
  }

  async #verify(): Promise<void> {
    try {
      this.verdict = await api.get<Verification>("/audit/verify");
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  #table(entries: AuditEntry[]) {
    return html`<div class="table">
      <table>
        <thead>
          <tr><th>When</th><th>Who</th><th>Action</th><th>On</th><th>Effect</th><th>Why</th></tr>
        </thead>
        <tbody>
          ${entries.map(
            (entry) =>
              html`<tr>
                <td><time datetime=${entry.at}>${moment(entry.at)}</time></td>
                <td>
                  ${nameOf(entry.actor_id)}
                  ${entry.impersonator_id ? html`<span class="tag warn">by ${nameOf(entry.impersonator_id)}</span>` : nothing}
                </td>
                <td class="mono">${entry.action}</td>
                <td>${entry.resource_type} <span class="mono quiet">${entry.resource_id?.slice(0, 13)}</span></td>
                <td><span class="tag ${entry.effect === "allow" ? "good" : entry.effect === "ask" ? "warn" : "bad"}">${entry.effect}</span></td>
                <td>
                  <details>
                    <summary>${entry.reason}</summary>
                    <pre>${pretty({ policy: entry.policy_revision, details: entry.details })}</pre>
                  </details>
                </td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
  }
}
