// The second factor: a secret shown as a QR code that is drawn here, proven by a code, and backup codes shown once.
import { LitElement, css, html, nothing, svg } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { encode } from "uqr";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import { base, buttons, fields, tags } from "../styles/controls";
import "../ui/problem-note";
import "../ui/secret";

interface Fresh {
  secret: string;
  uri: string;
}

@customElement("soma-totp")
export class Totp extends LitElement {
  static override styles = [
    base,
    buttons,
    fields,
    tags,
    css`
      .enrol {
        display: grid;
        grid-template-columns: auto minmax(0, 1fr);
        gap: var(--s5);
        align-items: start;
      }
      svg {
        width: 180px;
        height: 180px;
        padding: 10px;
        border-radius: var(--radius);
        background: white;
        color: black;
      }
      code {
        overflow-wrap: anywhere;
      }
      p {
        margin-bottom: var(--s3);
        font-size: var(--text-s);
        color: var(--ink-2);
      }
      @media (max-width: 520px) {
        .enrol {
          grid-template-columns: minmax(0, 1fr);
        }
      }
    `,
  ];

  @property({ type: Boolean }) on = false;
  @state() private fresh: Fresh | null = null;
  @state() private codes: string[] = [];
  @state() private problem: Problem | null = null;

  override render() {
    if (this.codes.length) {
      return html`<soma-secret
          text="Ten backup codes. Each works once, when the authenticator is not at hand. They are not shown again."
          .value=${this.codes.join("\n")}
        ></soma-secret>
        <p><br /><button @click=${this.#kept}>I have kept them</button></p>`;
    }
    return html`<soma-problem .problem=${this.problem}></soma-problem> ${this.fresh
        ? this.#enrol(this.fresh)
        : this.on
          ? this.#off()
          : html`<p>A code from an authenticator app, asked for beside the password.</p>
              <button @click=${this.#begin}>Set it up</button>`}`;
  }

  #enrol({ secret, uri }: Fresh) {
    const { data, size } = encode(uri, { border: 0 });
    const path = data
      .flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : "")))
      .join("");
    return html`<div class="enrol">
      <svg viewBox="0 0 ${size} ${size}" role="img" aria-label="QR code for an authenticator app" shape-rendering="crispEdges">
        ${svg`<path fill="currentColor" d=${path}></path>`}
      </svg>
      <form @submit=${this.#confirm}>
        <p>Scan it with an authenticator app, or type the secret: <code>${secret}</code></p>
        <label>The code that it shows<input name="code" class="code" autocomplete="one-time-code" inputmode="numeric" required maxlength="6" /></label>
        <div class="row">
          <button type="submit" class="primary">Turn it on</button>
          <button type="button" class="plain" @click=${() => (this.fresh = null)}>Cancel</button>
        </div>
      </form>
    </div>`;
  }

  #off() {
    return html`<form @submit=${this.#disable}>
      <p><span class="tag good">on</span> To turn it off, a code is needed.</p>
      <label>Code<input name="code" class="code" autocomplete="one-time-code" required /></label>
      <div><button type="submit" class="danger">Turn it off</button></div>
      ${nothing}
    </form>`;
  }

  async #try(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.problem = null;
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  #begin(): Promise<void> {
    return this.#try(async () => {
      this.fresh = await api.post<Fresh>("/me/totp");
    });
  }

  #confirm(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const code = String(new FormData(event.currentTarget as HTMLFormElement).get("code") ?? "").trim();
    return this.#try(async () => {
      const { backup_codes } = await api.post<{ backup_codes: string[] }>("/me/totp/confirm", { code });
      this.fresh = null;
      this.codes = backup_codes;
    });
  }

  #disable(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const code = String(new FormData(event.currentTarget as HTMLFormElement).get("code") ?? "").trim();
    return this.#try(async () => {
      await api.post("/me/totp/disable", { code });
      this.#changed();
    });
  }

  #kept(): void {
    this.codes = [];
    this.#changed();
  }

  #changed(): void {
    this.dispatchEvent(new CustomEvent("changed"));
  }
}
