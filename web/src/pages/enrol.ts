// Where a tenant asks for a second factor, whoever has none sets one up before anything else.
import { LitElement, html } from "lit";
import { customElement } from "lit/decorators.js";
import { readMe, session, signOut } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { base, buttons } from "../styles/controls";
import { mark } from "../ui/icon";
import { gateStyles } from "./gate-styles";
import "./totp";

@customElement("soma-enrol")
export class Enrol extends LitElement {
  static override styles = [base, buttons, gateStyles];

  #watch = new Watch(this, session);

  override render() {
    void this.#watch;
    return html`<header>
        ${mark(40)}
        <h1>Set up a second factor</h1>
        <p>${session.value.me?.tenant?.name} asks everybody for one. You are signed in; this comes first.</p>
      </header>
      <soma-totp @changed=${() => void readMe()}></soma-totp>
      <p class="below"><button class="plain tiny" @click=${() => void attempt(signOut)}>Sign out</button></p>`;
  }
}
