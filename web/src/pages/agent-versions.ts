// An agent's versions: what each changed, and a way back to it.
import { LitElement, css, html, nothing, type PropertyValues } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import type { AgentVersion } from "../api/types";
import { nameOf, names, readNames } from "../app/names";
import { can } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import { diff, folded } from "../text/diff";
import { ago } from "../text/format";
import "../ui/dialog";
import { Loader } from "../ui/loader";
import "../ui/problem-note";

/** All of a version as text, so that one difference shows everything that changed. */
function written(version: AgentVersion): string {
  const { name, model, tools, tools_ask, limits, prompt } = version;
  return [
    `name: ${name}`,
    `model: ${model ?? "the install's"}`,
    `tools: ${tools.join(", ") || "none"}`,
    `ask first: ${tools_ask.join(", ") || "none"}`,
    ...Object.entries(limits).map(([key, value]) => `${key}: ${value ?? "no limit"}`),
    "",
    ...prompt.split("\n"),
  ].join("\n");
}

@customElement("soma-agent-versions")
export class AgentVersions extends LitElement {
  static override styles = [
    page,
    css`
      h2 {
        margin-bottom: var(--s2);
      }
      ol {
        list-style: none;
      }
      li {
        display: flex;
        align-items: center;
        gap: var(--s2);
        padding: 7px 0;
        border-top: 1px solid var(--line);
        font-size: var(--text-s);
      }
      li div {
        flex: 1;
      }
      .diff {
        border: 1px solid var(--line);
        border-radius: var(--radius);
        overflow-x: auto;
        font: 400 var(--text-s) / 1.55 var(--mono);
      }
      .line {
        display: grid;
        grid-template-columns: 3.2em 3.2em 1.4em 1fr;
        white-space: pre-wrap;
        overflow-wrap: anywhere;
      }
      .line > :nth-child(-n + 2) {
        color: var(--ink-3);
        text-align: right;
        padding-right: 8px;
        user-select: none;
      }
      .added {
        background: var(--good-soft);
      }
      .removed {
        background: var(--bad-soft);
      }
      .fold {
        padding: 2px 12px;
        background: var(--sunken);
        color: var(--ink-3);
      }
    `,
  ];

  @property() agent = "";
  @property({ type: Number }) version = 1;
  @state() private shown: [AgentVersion, AgentVersion | undefined] | null = null;
  #read = new Loader(this, () => api.all<AgentVersion>(`/agents/${this.agent}/versions`));
  #watch = new Watch(this, names);

  override connectedCallback(): void {
    super.connectedCallback();
    void this.#watch;
    void readNames();
  }

  protected override updated(changed: PropertyValues): void {
    if (changed.has("version") && changed.get("version") !== undefined) void this.#read.reload();
  }

  override render() {
    const { value, problem, reload } = this.#read;
    const versions = [...(value ?? [])].sort((a, b) => b.version - a.version);
    return html`<h2>Versions</h2>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      <ol>
        ${versions.map((one, index) => this.#item(one, versions[index + 1]))}
      </ol>
      ${this.shown ? this.#difference(...this.shown) : nothing}`;
  }

  #item(one: AgentVersion, before: AgentVersion | undefined) {
    return html`<li>
      <div>
        <strong>${one.version}</strong> ${one.version === this.version ? html`<span class="tag accent">current</span>` : nothing}
        <div class="quiet">${nameOf(one.author_id)}, ${ago(one.created_at)}</div>
      </div>
      <button class="tiny" @click=${() => (this.shown = [one, before])}>What changed</button>
      ${one.version !== this.version && can("agent:update")
        ? html`<button class="tiny" @click=${() => void this.#restore(one.version)}>Restore</button>`
        : nothing}
    </li>`;
  }

  #difference(one: AgentVersion, before: AgentVersion | undefined) {
    const lines = folded(diff(before ? written(before) : "", written(one)));
    const signs = { same: " ", added: "+", removed: "−" };
    return html`<soma-dialog
      wide
      heading=${before ? `Version ${before.version} to ${one.version}` : `Version ${one.version}`}
      @closed=${() => (this.shown = null)}
    >
      <div class="diff" tabindex="0" role="region" aria-label="Difference">
        ${lines.map((line) =>
          line.kind === "fold"
            ? html`<div class="fold">${line.count} lines that stayed</div>`
            : html`<div class="line ${line.kind}">
                <span>${line.old ?? ""}</span><span>${line.new ?? ""}</span><span>${signs[line.kind]}</span><span>${line.text}</span>
              </div>`,
        )}
      </div>
    </soma-dialog>`;
  }

  async #restore(version: number): Promise<void> {
    const restored = await attempt(
      () => api.post(`/agents/${this.agent}/restore`, { version }),
      `Version ${version} was restored as a new version.`,
    );
    if (restored) this.dispatchEvent(new CustomEvent("restored"));
  }
}
