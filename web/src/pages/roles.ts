// Roles and grants: the matrix, the tenant's own roles, grants and denials, and why somebody may do something.
import { LitElement, html, nothing } from "lit";
import { customElement } from "lit/decorators.js";
import { location, setQuery } from "../app/router";
import { session } from "../app/session";
import { Watch } from "../app/store";
import { page, tabs } from "../styles/controls";
import "../ui/page-head";
import "./roles-explain";
import "./roles-grants";
import "./roles-matrix";
import "./roles-own";

const TABS: [string, string][] = [
  ["matrix", "Matrix"],
  ["own", "Own roles"],
  ["grants", "Grants"],
  ["explain", "Explain"],
];

@customElement("soma-roles")
export class RolesPage extends LitElement {
  static override styles = [page, tabs];

  #watch = new Watch(this, location, session);

  override render() {
    void this.#watch;
    const query = location.value.query;
    const user = query.get("user") ?? "";
    const tab = query.get("tab") ?? (user ? "explain" : "matrix");
    return html`<soma-head heading="Roles & grants" text="What roles allow, who was given more or less, and the reason for every answer. A change counts within a second."></soma-head>
      <nav class="tabs" aria-label="Parts">
        ${TABS.map(([name, label]) => html`<a href="/roles?tab=${name}" aria-current=${name === tab ? "page" : nothing}>${label}</a>`)}
      </nav>
      ${tab === "own"
        ? html`<soma-own-roles></soma-own-roles>`
        : tab === "grants"
          ? html`<soma-grants></soma-grants>`
          : tab === "explain"
            ? html`<soma-explain .user=${user} @user=${(event: CustomEvent<string>) => setQuery({ tab: "explain", user: event.detail })}></soma-explain>`
            : html`<soma-matrix></soma-matrix>`}`;
  }
}
