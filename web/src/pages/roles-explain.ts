// What one user may do, and through which role or grant.
import { LitElement, css, html, nothing, type PropertyValues } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import type { Effect, User } from "../api/types";
import { page } from "../styles/controls";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/problem-note";

interface Effective {
  items: { action: string; effect: Effect; reason: string; explanation?: string; role: string | null; grant_id: string | null }[];
  revision: string;
}

@customElement("soma-explain")
export class Explain extends LitElement {
  static override styles = [
    page,
    css`
      .controls {
        display: flex;
        flex-wrap: wrap;
        gap: var(--s3);
        align-items: end;
        margin-bottom: var(--s4);
      }
      .controls label {
        flex: 0 1 16rem;
      }
      p {
        margin-top: var(--s3);
      }
    `,
  ];

  @property() user = "";
  @state() private words = "";
  @state() private allowedOnly = true;
  #users = new Loader(this, () => api.all<User>("/users"));
  #read = new Loader(this, async () => (this.user ? api.get<Effective>("/permissions/effective", { user_id: this.user }) : undefined));

  protected override updated(changed: PropertyValues): void {
    if (changed.has("user") && changed.get("user") !== undefined) void this.#read.reload();
  }

  override render() {
    const { value, problem, reload } = this.#read;
    const shown = (value?.items ?? []).filter(
      (item) => item.action.includes(this.words) && (!this.allowedOnly || item.effect !== "deny"),
    );
    return html`<div class="controls">
        <label
          >Who<select @change=${this.#chosen}>
            <option value="">choose somebody</option>
            ${(this.#users.value ?? []).map((user) => html`<option value=${user.id} ?selected=${user.id === this.user}>${user.name || user.email}</option>`)}
          </select></label
        >
        <label>Action<input type="search" @input=${this.#typed} /></label>
        <label class="check"><input type="checkbox" .checked=${this.allowedOnly} @change=${this.#only} />allowed only</label>
      </div>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${this.user
        ? nothing
        : html`<soma-empty heading="Whose rights?" text="Choose somebody, and see what they may do and through which role or grant."></soma-empty>`}
      ${value
        ? html`<div class="table">
              <table>
                <thead>
                  <tr><th>Action</th><th>Answer</th><th>Why</th></tr>
                </thead>
                <tbody>
                  ${shown.map(
                    (item) =>
                      html`<tr>
                        <td class="mono">${item.action}</td>
                        <td><span class="tag ${item.effect === "allow" ? "good" : item.effect === "ask" ? "warn" : "bad"}">${item.effect}</span></td>
                        <td>${item.explanation ?? item.reason}</td>
                      </tr>`,
                  )}
                </tbody>
              </table>
            </div>
            <p class="quiet small">Policy revision <span class="mono">${value.revision}</span></p>`
        : nothing}`;
  }

  #chosen(event: Event): void {
    this.dispatchEvent(new CustomEvent("user", { detail: (event.target as HTMLSelectElement).value }));
  }

  #typed(event: Event): void {
    this.words = (event.target as HTMLInputElement).value.trim();
  }

  #only(event: Event): void {
    this.allowedOnly = (event.target as HTMLInputElement).checked;
  }
}
