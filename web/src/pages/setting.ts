// One setting at one level: a field of its kind, and the values of all levels with the one that counts.
import { LitElement, css, html, nothing, type PropertyValues } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Setting, SettingLevel, Tool } from "../api/types";
import { readTheme } from "../app/theme";
import { say } from "../app/toasts";
import { page } from "../styles/controls";

const NAMES: Record<SettingLevel | "default", string> = {
  default: "default",
  platform: "platform",
  tenant: "tenant",
  agent: "agent",
  user: "you",
};

const ORDER: SettingLevel[] = ["platform", "tenant", "agent", "user"];

/** What stands between backticks, as code. */
const withCode = (text: string) =>
  text.split("`").map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : part));

@customElement("soma-setting")
export class SettingView extends LitElement {
  static override styles = [
    page,
    css`
      section {
        display: grid;
        grid-template-columns: minmax(0, 1fr) minmax(0, 24rem);
        gap: var(--s2) var(--s5);
        padding: var(--s4);
      }
      p {
        margin-top: 3px;
      }
      form {
        gap: var(--s2);
        justify-items: start;
      }
      .field {
        display: flex;
        flex-wrap: wrap;
        gap: var(--s2);
        align-items: center;
        width: 100%;
      }
      .field > input:not([type="checkbox"]),
      .field > select {
        flex: 1;
        min-width: 8rem;
      }
      .tools {
        width: 100%;
        max-height: 13.5rem;
        overflow: auto;
        padding: 6px 10px;
        border: 1px solid var(--line);
        border-radius: var(--radius);
      }
      .tools label {
        padding: 3px 0;
        font: 400 var(--text-xs) / 1.4 var(--mono);
      }
      .from {
        display: flex;
        flex-wrap: wrap;
        gap: 4px;
        font-size: var(--text-xs);
        color: var(--ink-3);
      }
      .from .tag {
        white-space: normal;
        overflow-wrap: anywhere;
      }
      @media (max-width: 760px) {
        section {
          grid-template-columns: minmax(0, 1fr);
        }
      }
    `,
  ];

  @property({ attribute: false }) setting!: Setting;
  @property() level: SettingLevel = "tenant";
  /** The level as the API names it: an agent's has its name. */
  @property() scope = "";
  @property({ attribute: false }) tools: Tool[] = [];
  @property({ type: Boolean }) editable = false;
  @state() private problem: Problem | null = null;
  @state() private busy = false;

  protected override willUpdate(changed: PropertyValues): void {
    if (changed.has("scope")) this.problem = null;
  }

  override render() {
    const { key, description } = this.setting;
    const own = this.setting.set.find(({ level }) => level === this.level);
    return html`<section aria-labelledby="key">
      <div>
        <h3 class="mono" id="key">${key}</h3>
        <p class="small quiet">${withCode(description)}</p>
      </div>
      <form @submit=${this.#save}>
        ${this.#field(own ? own.value : this.#inherited())}
        ${this.problem ? html`<span class="wrong" role="alert">${this.problem.about("value") ?? this.problem.message}</span>` : nothing}
        ${this.editable
          ? html`<div class="row">
              <button type="submit" class="tiny" ?disabled=${this.busy}>${own ? "Save" : "Set it here"}</button>
              ${own
                ? html`<button type="button" class="plain tiny" ?disabled=${this.busy} @click=${this.#takeBack}>Take back what is set here</button>`
                : nothing}
            </div>`
          : nothing}
        ${this.#from()}
      </form>
    </section>`;
  }

  /** What counts at this level while nothing is set there: the next wider value, as far as it is known. */
  #inherited(): unknown {
    const { set, from, value, kind } = this.setting;
    const here = ORDER.indexOf(this.level);
    const wider = set.filter(({ level }) => ORDER.indexOf(level) < here).at(-1);
    if (wider) return wider.level === from ? value : wider.value;
    if (from === "default") return value;
    return kind === "tools" ? [] : null;
  }

  /** The values of all levels, the widest first; the one that counts stands out. */
  #from() {
    const { set, from, value } = this.setting;
    const shown = from === "default" ? [{ level: from, value }, ...set] : set;
    return html`<div class="from">
      <span class="hidden-text">Values, the widest level first:</span>
      ${shown.map(
        (one) =>
          html`<span class="tag ${one.level === from ? "accent" : ""}"
            >${NAMES[one.level]}: ${shownAs(one.level === from ? value : one.value)}${one.level === from ? ", which counts" : nothing}</span
          >`,
      )}
    </div>`;
  }

  #field(value: unknown) {
    const { key, kind, choices } = this.setting;
    const off = !this.editable;
    if (choices) {
      return html`<div class="field">
        <select name="value" aria-label=${key} ?disabled=${off}>
          ${value === null ? html`<option value="">as by default</option>` : nothing}
          ${choices.map((choice) => html`<option ?selected=${choice === value}>${choice}</option>`)}
        </select>
      </div>`;
    }
    switch (kind) {
      case "tools":
        return this.#toolList(Array.isArray(value) ? value.map(String) : []);
      case "boolean":
        return html`<label class="check"><input name="value" type="checkbox" .checked=${value === true} ?disabled=${off} />on</label>`;
      default:
        return html`<div class="field">
          <input
            name="value"
            type=${kind === "number" ? "number" : "text"}
            step="any"
            aria-label=${key}
            placeholder=${value === null ? "as by default" : nothing}
            .value=${value === null ? "" : shownAs(value)}
            ?readonly=${off}
          />
        </div>`;
    }
  }

  #toolList(chosen: string[]) {
    // One that this install does not have stays in the list until somebody takes it out.
    const all = [...new Set([...this.tools.map(({ name }) => name), ...chosen])].sort();
    return html`<div class="tools" role="group" aria-label=${this.setting.key} tabindex="0">
      ${all.map(
        (name) =>
          html`<label class="check"
            ><input type="checkbox" name="value" value=${name} .checked=${chosen.includes(name)} ?disabled=${!this.editable} />${name}</label
          >`,
      )}
      ${all.length === 0 ? html`<span class="quiet small">There are no tools.</span>` : nothing}
    </div>`;
  }

  #value(form: FormData): unknown {
    const raw = String(form.get("value") ?? "");
    switch (this.setting.kind) {
      case "tools":
        return form.getAll("value").map(String);
      case "boolean":
        return form.has("value");
      case "number":
        return raw === "" ? null : Number(raw);
      case "choice":
      case "text":
        return raw;
      default:
        return parsed(raw);
    }
  }

  #save(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const value = this.#value(new FormData(event.currentTarget as HTMLFormElement));
    return this.#change(() => api.put(this.#path(), { value }), "The setting was saved.");
  }

  #takeBack(): Promise<void> {
    return this.#change(() => api.delete(this.#path()), "The wider level's value counts here again.");
  }

  #path(): string {
    return `/settings/${encodeURIComponent(this.scope)}/${this.setting.key}`;
  }

  async #change(work: () => Promise<unknown>, done: string): Promise<void> {
    this.busy = true;
    try {
      await work();
      this.problem = null;
      say(done);
      this.dispatchEvent(new CustomEvent("changed"));
      if (this.setting.key === "ui_theme") await readTheme();
    } catch (error) {
      this.problem = asProblem(error);
    } finally {
      this.busy = false;
    }
  }
}

function shownAs(value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (Array.isArray(value)) return value.length ? value.join(", ") : "none";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** A kind that this page does not know is written as JSON, or is text. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
