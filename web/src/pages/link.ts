// A one-time link: the first sign-in, an invitation, or a new password. The token is in the fragment, which is never
// sent or logged, and leaves the address as soon as it was read.
import { LitElement, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Link, Me } from "../api/types";
import { location, navigate } from "../app/router";
import { signedIn } from "../app/session";
import { base, buttons, fields } from "../styles/controls";
import { ago } from "../text/format";
import { mark } from "../ui/icon";
import "../ui/problem-note";
import { gateStyles } from "./gate-styles";

/** The server refuses shorter ones. */
const PASSWORD_MIN = 12;

const HEADINGS: Record<Link["purpose"], string> = {
  setup: "Set up Soma",
  invitation: "You are invited",
  reset: "Choose a new password",
};

@customElement("soma-link")
export class LinkPage extends LitElement {
  static override styles = [base, buttons, fields, gateStyles];

  @state() private link: Link | null = null;
  @state() private problem: Problem | null = null;
  @state() private busy = false;
  @state() private wantsCode = false;
  #token = "";
  #unsubscribe = () => {};

  override connectedCallback(): void {
    super.connectedCallback();
    // Another link may be opened in the same tab: then only the fragment changes.
    this.#unsubscribe = location.subscribe(() => this.#take());
    this.#take();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    this.#unsubscribe();
  }

  #take(): void {
    const { path, hash } = location.value;
    if (path !== "/link" || !hash) return;
    this.#token = hash;
    this.link = null;
    this.wantsCode = false;
    history.replaceState(null, "", "/link");
    void this.#inspect();
  }

  async #inspect(): Promise<void> {
    if (!this.#token) return;
    this.problem = null;
    try {
      this.link = await api.post<Link>("/auth/links/inspect", { token: this.#token });
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  override render() {
    const link = this.link;
    if (!this.#token || (this.problem && !link)) return this.#unusable();
    if (!link) return html`<header>${mark(40)}</header>`;
    return html`<header>
        ${mark(40)}
        <h1>${HEADINGS[link.purpose]}</h1>
        <p>
          ${link.purpose === "invitation" ? html`To join <strong>${link.tenant}</strong> as` : html`For`}
          <strong>${link.email}</strong>. The link works once and ends ${ago(link.expires_at)}.
        </p>
      </header>
      ${this.problem && !this.problem.errors.length ? html`<soma-problem .problem=${this.problem}></soma-problem>` : nothing}
      <form @submit=${this.#redeem}>
        <input type="hidden" name="username" autocomplete="username" .value=${link.email} />
        ${link.purpose === "reset" || link.has_password
          ? nothing
          : html`<label>Your name<input name="name" autocomplete="name" maxlength="200" autofocus /></label>`}
        <label
          >${link.has_password ? "Your password" : "Password"}<input
            name="password"
            type="password"
            autocomplete=${link.has_password ? "current-password" : "new-password"}
            minlength=${link.has_password ? 1 : PASSWORD_MIN}
            required
            ?autofocus=${link.purpose === "reset"}
          />
          ${this.problem?.about("password")
            ? html`<span class="wrong" role="alert">${this.problem.about("password")}</span>`
            : link.has_password
              ? html`<span class="hint">You have an account here: it is taken with the password that you have.</span>`
              : html`<span class="hint">At least ${PASSWORD_MIN} characters. A sentence is easy to remember.</span>`}
        </label>
        ${this.wantsCode
          ? html`<label
              >Code from your authenticator, or a backup code<input name="code" class="code" autocomplete="one-time-code" required
            /></label>`
          : nothing}
        <button type="submit" class="primary" ?disabled=${this.busy}>${this.busy ? "One moment…" : "Continue"}</button>
      </form>`;
  }

  #unusable() {
    return html`<header>
        ${mark(40)}
        <h1>This link does not work</h1>
        <p>
          It was used already, its time is over, or a part of it was cut off. Copy all of it, or ask an administrator for
          a new one: <code>soma admin link --email ADDRESS</code>
        </p>
      </header>
      ${this.problem && (this.problem.status === 0 || this.problem.status === 429 || this.problem.status >= 500)
        ? html`<soma-problem .problem=${this.problem} .retry=${() => void this.#inspect()}></soma-problem>`
        : nothing}
      <p class="below"><a href="/sign-in">To sign-in</a></p>`;
  }

  async #redeem(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const name = String(form.get("name") ?? "").trim();
    const code = String(form.get("code") ?? "").trim();
    this.busy = true;
    this.problem = null;
    try {
      const body = { token: this.#token, password: form.get("password"), ...(name ? { name } : {}), ...(code ? { code } : {}) };
      const me = await api.post<Me>("/auth/links/redeem", body);
      this.#token = "";
      signedIn(me);
      navigate("/chat", { replace: true });
    } catch (error) {
      const problem = asProblem(error);
      if (problem.code === "totp_required") this.wantsCode = true;
      else this.problem = problem;
    } finally {
      this.busy = false;
    }
  }
}
