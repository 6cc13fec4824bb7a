// Oneself: name, password, second factor, and the sessions that are open.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { Session } from "../api/types";
import { readMe, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt, say } from "../app/toasts";
import { page } from "../styles/controls";
import { ago } from "../text/format";
import { Loader } from "../ui/loader";
import "../ui/page-head";
import "../ui/problem-note";
import "./totp";

@customElement("soma-profile")
export class ProfilePage extends LitElement {
  static override styles = [
    page,
    css`
      section {
        max-width: 44rem;
        margin-bottom: var(--s6);
      }
      h2 {
        margin-bottom: var(--s3);
        padding-bottom: var(--s2);
        border-bottom: 1px solid var(--line);
      }
    `,
  ];

  @state() private problem: Problem | null = null;
  #sessions = new Loader(this, () => api.all<Session>("/me/sessions"));
  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    const me = session.value.me;
    if (!me) return nothing;
    return html`<soma-head heading="Profile and security" text="${me.email}, in ${me.tenant?.name}: ${me.roles.join(", ") || "no role"}">
        <a class="button" href="/settings?at=user">Your settings</a>
      </soma-head>
      <section aria-labelledby="name">
        <h2 id="name">Name</h2>
        <form @submit=${this.#rename}>
          <div class="row">
            <input name="name" aria-label="Your name" maxlength="200" .value=${me.name} autocomplete="name" />
          </div>
          <div><button type="submit">Save</button></div>
        </form>
      </section>
      <section aria-labelledby="password">
        <h2 id="password">Password</h2>
        <form @submit=${this.#password}>
          <soma-problem .problem=${this.problem}></soma-problem>
          <div class="columns">
            <label>Current<input name="current" type="password" autocomplete="current-password" required /></label>
            <label>New<input name="new" type="password" autocomplete="new-password" minlength="12" required /></label>
          </div>
          <div><button type="submit">Change the password</button></div>
        </form>
      </section>
      <section aria-labelledby="factor">
        <h2 id="factor">Second factor</h2>
        <soma-totp .on=${me.totp} @changed=${() => void readMe()}></soma-totp>
      </section>
      <section aria-labelledby="sessions">
        <h2 id="sessions">Sessions</h2>
        ${this.#list()}
      </section>`;
  }

  #list() {
    const { value, problem, reload } = this.#sessions;
    return html`<soma-problem .problem=${problem} .retry=${reload}></soma-problem>
      ${value?.length
        ? html`<div class="table">
              <table>
                <thead>
                  <tr><th>Browser</th><th>Address</th><th>Last used</th><th>Ends</th><th><span class="hidden-text">Actions</span></th></tr>
                </thead>
                <tbody>
                  ${value.map(
                    (one) =>
                      html`<tr>
                        <td>${browser(one.user_agent)} ${one.current ? html`<span class="tag accent">this one</span>` : nothing}</td>
                        <td class="mono">${one.address ?? "—"}</td>
                        <td>${ago(one.last_used_at)}</td>
                        <td>${ago(one.expires_at)}</td>
                        <td class="act">
                          ${one.current ? nothing : html`<button class="tiny" @click=${() => void this.#end(one.id)}>End</button>`}
                        </td>
                      </tr>`,
                  )}
                </tbody>
              </table>
            </div>
            ${value.length > 1 ? html`<p><br /><button class="danger" @click=${() => void this.#end("")}>End all others</button></p>` : nothing}`
        : nothing}`;
  }

  async #rename(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const name = String(new FormData(event.currentTarget as HTMLFormElement).get("name") ?? "").trim();
    if (await attempt(() => api.patch("/me", { name }), "Your name was saved.")) await readMe();
  }

  async #password(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const { current, new: fresh } = Object.fromEntries(new FormData(form));
    try {
      await api.post("/me/password", { current, new: fresh });
      this.problem = null;
      form.reset();
      say("The password was changed.");
      await this.#sessions.reload();
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  async #end(id: string): Promise<void> {
    const path = id ? `/me/sessions/${id}` : "/me/sessions";
    if (await attempt(() => api.delete(path), id ? "The session was ended." : "All other sessions were ended.")) {
      await this.#sessions.reload();
    }
  }
}

/** The part of a browser's self-description that a person knows. */
export function browser(agent: string | null): string {
  const text = agent ?? "";
  const name = /(Firefox|Edg|OPR|Chrome|Safari|curl)\/[\d.]+/.exec(text)?.[1] ?? "";
  const system = /(Windows|Mac OS|Android|iPhone|iPad|Linux)/.exec(text)?.[1] ?? "";
  const known = [name.replace("Edg", "Edge").replace("OPR", "Opera"), system].filter(Boolean).join(" on ");
  return known || text.slice(0, 40) || "unknown";
}
