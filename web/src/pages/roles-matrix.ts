// Which role allows which action.
import { LitElement, css, html, nothing } from "lit";
import { customElement, state } from "lit/decorators.js";
import { api } from "../api/client";
import { page } from "../styles/controls";
import { icon } from "../ui/icon";
import { Loader } from "../ui/loader";
import "../ui/problem-note";

interface Matrix {
  actions: string[];
  roles: string[];
  cells: boolean[][];
}

@customElement("soma-matrix")
export class RolesMatrix extends LitElement {
  static override styles = [
    page,
    css`
      input {
        max-width: 20rem;
        margin-bottom: var(--s3);
      }
      .table {
        max-height: calc(100dvh - 260px);
        overflow: auto;
      }
      thead th {
        position: sticky;
        top: 0;
        background: var(--raised);
        z-index: 1;
      }
      tbody th {
        position: sticky;
        left: 0;
        padding: 3px 12px;
        background: var(--raised);
        color: var(--ink);
        font: 400 var(--text-xs) / 1.5 var(--mono);
        border-bottom: 0;
        border-top: 1px solid var(--line);
      }
      tbody tr:first-child th {
        border-top: 0;
      }
      table {
        /* Borders that cells share would stay behind when the first column stays in view. */
        border-collapse: separate;
        border-spacing: 0;
      }
      td svg {
        vertical-align: middle;
      }
      td {
        padding: 3px 12px;
        color: var(--good);
        text-align: center;
      }
      .off {
        color: var(--line-strong);
      }
    `,
  ];

  @state() private words = "";
  #read = new Loader(this, () => api.get<Matrix>("/permissions/matrix"));

  override render() {
    const { value, problem, reload } = this.#read;
    return html`<soma-problem .problem=${problem} .retry=${reload}></soma-problem>${value ? this.#table(value) : nothing}`;
  }

  #table({ actions, roles, cells }: Matrix) {
    const shown = actions.map((action, index) => ({ action, index })).filter(({ action }) => action.includes(this.words));
    return html`<input type="search" aria-label="Filter actions" placeholder="Filter actions" @input=${this.#typed} />
      <div class="table" tabindex="0" role="region" aria-label="Roles and actions">
        <table>
          <thead>
            <tr><th scope="col">Action</th>${roles.map((role) => html`<th scope="col">${role}</th>`)}</tr>
          </thead>
          <tbody>
            ${shown.map(
              ({ action, index }) =>
                html`<tr>
                  <th scope="row">${action}</th>
                  ${roles.map((_, column) =>
                    cells[column]?.[index]
                      ? html`<td>${icon("check", 14)}<span class="hidden-text">yes</span></td>`
                      : html`<td class="off">·</td>`,
                  )}
                </tr>`,
            )}
          </tbody>
        </table>
      </div>`;
  }

  #typed(event: Event): void {
    this.words = (event.target as HTMLInputElement).value.trim();
  }
}
