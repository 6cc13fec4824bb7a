// Sign-in: password, a second factor when the account has one, or the organisation's identity provider.
import { LitElement, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, Problem } from "../api/problem";
import type { Me, SignInMethods } from "../api/types";
import { location, navigate, safeReturn } from "../app/router";
import { signedIn } from "../app/session";
import { base, buttons, fields } from "../styles/controls";
import { duration } from "../text/format";
import { mark } from "../ui/icon";
import "../ui/problem-note";
import { gateStyles } from "./gate-styles";

/** What the server's codes mean to a person. */
const SAYINGS: Record<string, string> = {
  bad_credentials: "This email address and password don't belong together.",
  sign_in_ended: "That sign-in took too long or was begun elsewhere. Begin it again.",
  not_signed_in: "The identity provider did not sign you in. Try again, or ask whoever runs it.",
  provider_refused: "What came from the identity provider was refused. Try again; if it stays, ask an administrator.",
  provider_unavailable: "The identity provider can't be reached now. Try again in a moment.",
  email_not_verified: "The identity provider has not verified your email address. Verify it there, then sign in again.",
  account_exists:
    "There is an account with this email address already, and it is not linked to the identity provider. Sign in with its password.",
  no_tenant: "This account is no member here any more. Ask an administrator to invite it again.",
  bad_code: "This code is not the current one. Codes change every 30 seconds; a backup code works once.",
};

@customElement("soma-sign-in")
export class SignIn extends LitElement {
  static override styles = [base, buttons, fields, gateStyles];

  @state() private methods: SignInMethods | null = null;
  @state() private problem: Problem | null = null;
  @state() private wantsCode = false;
  @state() private busy = false;
  @state() private forgot: "no" | "asking" | "sent" = "no";
  #email = "";
  #password = "";

  override connectedCallback(): void {
    super.connectedCallback();
    // Why the identity provider's answer signed nobody in.
    const code = location.value.query.get("error") ?? "";
    if (code) this.problem = new Problem(0, code, SAYINGS[code] ?? "Signing in did not work. Try again.");
    void this.#readMethods();
  }

  async #readMethods(): Promise<void> {
    try {
      this.methods = await api.get<SignInMethods>("/auth/methods");
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  override render() {
    return html`<header>
        ${mark(40)}
        <h1>${this.forgot === "no" ? "Sign in to Soma" : "Reset your password"}</h1>
      </header>
      ${this.problem ? this.#trouble(this.problem) : nothing}
      ${this.forgot === "no" ? this.#signIn() : this.#reset()}`;
  }

  #trouble(problem: Problem) {
    const text = SAYINGS[problem.code];
    if (problem.code === "locked" || problem.code === "too_many_attempts") {
      const wait = problem.retryAfterSeconds > 0 ? ` Try again in ${duration(problem.retryAfterSeconds * 1000)}.` : "";
      return html`<p class="wrong" role="alert">Too many attempts.${wait}</p>`;
    }
    return text
      ? html`<p class="wrong" role="alert">${text}</p>`
      : html`<soma-problem .problem=${problem} .retry=${this.methods ? undefined : () => void this.#retry()}></soma-problem>`;
  }

  async #retry(): Promise<void> {
    this.problem = null;
    await this.#readMethods();
  }

  #signIn() {
    const methods = this.methods;
    if (!methods) return nothing;
    return html`${methods.password
      ? html`<form @submit=${this.#submit}>
          <label ?hidden=${this.wantsCode}
            >Email<input name="email" type="email" autocomplete="username" required autofocus
          /></label>
          <label ?hidden=${this.wantsCode}
            >Password<input name="password" type="password" autocomplete="current-password" required
          /></label>
          ${this.wantsCode
            ? html`<label
                >Code from your authenticator, or a backup code<input
                  name="code"
                  class="code"
                  autocomplete="one-time-code"
                  inputmode="text"
                  required
              /></label>`
            : nothing}
          <button type="submit" class="primary" ?disabled=${this.busy}>${this.busy ? "Signing in…" : "Sign in"}</button>
        </form>`
      : nothing}
    ${methods.oidc && !this.wantsCode
      ? html`${methods.password ? html`<div class="or">or</div>` : nothing}
          <a class="button wide" href=${this.#oidc()}>Continue with ${methods.oidc.name}</a>`
      : nothing}
    ${methods.password
      ? html`<p class="below">
          ${this.wantsCode
            ? html`<button class="plain tiny" @click=${this.#again}>Sign in as somebody else</button>`
            : methods.mail
            ? html`<button class="plain tiny" @click=${() => (this.forgot = "asking")}>Forgot the password?</button>`
            : html`Forgot the password? An administrator can make a link that sets a new one.`}
        </p>`
      : nothing}`;
  }

  #again(): void {
    this.wantsCode = false;
    this.problem = null;
    this.#password = "";
  }

  #reset() {
    if (this.forgot === "sent") {
      return html`<p class="done" role="status">
          If there is an account for this address, a link is on its way to it. It works once, for an hour.
        </p>
        <p class="below"><button class="plain tiny" @click=${() => (this.forgot = "no")}>Back to sign-in</button></p>`;
    }
    return html`<form @submit=${this.#ask}>
        <label>Email<input name="email" type="email" autocomplete="username" required .value=${this.#email} /></label>
        <button type="submit" class="primary" ?disabled=${this.busy}>Send a link</button>
      </form>
      <p class="below"><button class="plain tiny" @click=${() => (this.forgot = "no")}>Back to sign-in</button></p>`;
  }

  #back(): string {
    const { path, query, hash } = location.value;
    if (path === "/sign-in") return safeReturn(query.get("return_to"));
    const text = query.toString();
    return safeReturn(path + (text ? `?${text}` : "") + (hash ? `#${hash}` : ""));
  }

  #oidc(): string {
    return `/api/v2/auth/oidc/login?return_to=${encodeURIComponent(this.#back())}`;
  }

  async #submit(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    this.#email = String(form.get("email") ?? this.#email);
    this.#password = String(form.get("password") ?? this.#password);
    const code = String(form.get("code") ?? "").trim();
    this.busy = true;
    this.problem = null;
    try {
      const body = { email: this.#email, password: this.#password, ...(code ? { code } : {}) };
      const me = await api.post<Me>("/auth/login", body);
      this.#password = "";
      signedIn(me);
      const back = this.#back();
      navigate(back === "/" || back === "/sign-in" ? "/chat" : back, { replace: true });
    } catch (error) {
      const problem = asProblem(error);
      if (problem.code === "totp_required") {
        this.wantsCode = true;
        await this.updateComplete;
        this.renderRoot.querySelector<HTMLInputElement>('[name="code"]')?.focus();
      } else this.problem = problem;
    } finally {
      this.busy = false;
    }
  }

  async #ask(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    this.busy = true;
    this.problem = null;
    try {
      await api.post("/auth/reset", { email: form.get("email") });
      this.forgot = "sent";
    } catch (error) {
      this.problem = asProblem(error);
    } finally {
      this.busy = false;
    }
  }
}
