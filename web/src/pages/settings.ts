// Settings: each with its value, and from which level it comes.
import { LitElement, css, html, nothing } from "lit";
import { customElement } from "lit/decorators.js";
import { api } from "../api/client";
import type { Setting } from "../api/types";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { page } from "../styles/controls";
import "../ui/empty";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";

interface Choice extends Setting {
  choices?: string[];
}

@customElement("soma-settings")
export class SettingsPage extends LitElement {
  static override styles = [
    page,
    css`
      ul {
        list-style: none;
        max-width: 56rem;
        border: 1px solid var(--line);
        border-radius: var(--radius-l);
        background: var(--raised);
      }
      li {
        display: grid;
        grid-template-columns: minmax(0, 1fr) minmax(0, 20rem);
        gap: var(--s2) var(--s5);
        padding: var(--s3) var(--s4);
        border-top: 1px solid var(--line);
      }
      li:first-child {
        border-top: 0;
      }
      form {
        display: flex;
        gap: var(--s2);
        align-items: center;
      }
      .from {
        margin-top: 5px;
        font-size: var(--text-xs);
        color: var(--ink-3);
      }
      @media (max-width: 640px) {
        li {
          grid-template-columns: minmax(0, 1fr);
        }
      }
    `,
  ];

  #read = new Loader(this, () => api.all<Choice>("/settings", { limit: undefined }));
  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    const { value, problem, reload } = this.#read;
    return html`<soma-head
        heading="Settings"
        text="A value comes from the level closest to where it is used: the user, then the agent, the tenant, the platform, and else the default."
      ></soma-head>
      <soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value?.length === 0 ? html`<soma-empty heading="No settings" text="There is nothing to set here."></soma-empty>` : nothing}
      ${value?.length
        ? html`<ul>
            ${value.map((setting) => this.#item(setting))}
          </ul>`
        : nothing}`;
  }

  #item(setting: Choice) {
    const editable = can("tenant:update") && setting.allowed_at.includes("tenant");
    return html`<li>
      <div>
        <h3 class="mono">${setting.key}</h3>
        <p class="small quiet">${setting.description}</p>
      </div>
      <div>
        <form @submit=${(event: SubmitEvent) => void this.#save(event, setting)}>
          ${this.#field(setting, editable)} ${editable ? html`<button type="submit" class="tiny">Save</button>` : nothing}
        </form>
        <p class="from">
          from the ${setting.from}
          ${editable && setting.from === "tenant"
            ? html`<button class="plain tiny" @click=${() => void this.#inherit(setting)}>Take the inherited value</button>`
            : nothing}
        </p>
      </div>
    </li>`;
  }

  #field(setting: Choice, editable: boolean) {
    const label = setting.key;
    if (setting.choices) {
      return html`<select name="value" aria-label=${label} ?disabled=${!editable}>
        ${setting.choices.map((choice) => html`<option ?selected=${choice === setting.value}>${choice}</option>`)}
      </select>`;
    }
    if (typeof setting.value === "boolean") {
      return html`<input name="value" type="checkbox" aria-label=${label} .checked=${setting.value} ?disabled=${!editable} />`;
    }
    const number = typeof setting.value === "number";
    const text = setting.value === null ? "" : typeof setting.value === "string" ? setting.value : JSON.stringify(setting.value);
    return html`<input name="value" type=${number ? "number" : "text"} step="any" aria-label=${label} .value=${text} ?readonly=${!editable} />`;
  }

  async #save(event: SubmitEvent, setting: Choice): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const raw = form.get("value");
    const value =
      typeof setting.value === "boolean" ? raw !== null : typeof setting.value === "number" ? Number(raw) : parsed(String(raw ?? ""), setting);
    if (await attempt(() => api.put(`/settings/tenant/${setting.key}`, { value }), "The setting was saved.")) await this.#read.reload();
  }

  async #inherit(setting: Choice): Promise<void> {
    if (await attempt(() => api.delete(`/settings/tenant/${setting.key}`))) await this.#read.reload();
  }
}

/** A value that was JSON before is JSON again. */
function parsed(text: string, setting: Choice): unknown {
  if (typeof setting.value === "string") return text;
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
