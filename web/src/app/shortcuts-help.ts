// The list of keys.
import { LitElement, css, html } from "lit";
import { customElement } from "lit/decorators.js";
import { base } from "../styles/controls";
import "../ui/dialog";
import { allShortcuts } from "./shortcuts";

const COMPOSER: [string, string][] = [
  ["Enter", "Send the message"],
  ["Shift Enter", "New line"],
  ["Escape", "Leave an edit, close a window"],
];

@customElement("soma-shortcuts")
export class ShortcutsHelp extends LitElement {
  static override styles = [
    base,
    css`
      dl {
        display: grid;
        grid-template-columns: auto 1fr;
        gap: 7px var(--s5);
        font-size: var(--text-s);
      }
      kbd {
        display: inline-block;
        min-width: 22px;
        padding: 1px 6px;
        border: 1px solid var(--line-strong);
        border-bottom-width: 2px;
        border-radius: 4px;
        background: var(--paper);
        font: 500 var(--text-xs) / 1.5 var(--mono);
        text-align: center;
      }
      h3 {
        margin: var(--s4) 0 var(--s2);
      }
    `,
  ];

  override render() {
    const list = allShortcuts().map(({ keys, label }): [string, string] => [keys, label]);
    return html`<soma-dialog heading="Keyboard" @closed=${this.#closed}>
      ${this.#keys(list)}
      <h3>While writing</h3>
      ${this.#keys(COMPOSER)}
    </soma-dialog>`;
  }

  #keys(list: [string, string][]) {
    return html`<dl>
      ${list.map(
        ([keys, label]) =>
          html`<dt>${keys.split(" ").map((key) => html`<kbd>${key}</kbd> `)}</dt>
            <dd>${label}</dd>`,
      )}
    </dl>`;
  }

  #closed(): void {
    this.dispatchEvent(new CustomEvent("closed"));
  }
}
