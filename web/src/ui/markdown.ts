// Shows markdown that may still be growing: only blocks that changed are drawn again, so a selection above survives.
import { LitElement, css, html, type PropertyValues } from "lit";
import { customElement, property } from "lit/decorators.js";
import { blocks } from "../text/markdown";
import { base, buttons } from "../styles/controls";
import { codeStyles } from "../styles/code";
import { dressCode } from "./code-block";

@customElement("soma-markdown")
export class Markdown extends LitElement {
  static override styles = [
    base,
    buttons,
    codeStyles,
    css`
      :host {
        font-size: var(--text-l);
        line-height: 1.6;
        overflow-wrap: anywhere;
      }
      .block + .block {
        margin-top: 0.75em;
      }
      h1,
      h2,
      h3,
      h4 {
        font-size: 1.06em;
        font-weight: 640;
        letter-spacing: -0.005em;
        margin-top: 0.5em;
      }
      h1 {
        font-size: 1.25em;
      }
      h2 {
        font-size: 1.14em;
      }
      ul,
      ol {
        padding-left: 1.4em;
      }
      li + li,
      li > ul,
      li > ol {
        margin-top: 0.25em;
      }
      li::marker {
        color: var(--ink-3);
      }
      blockquote {
        margin: 0;
        padding-left: 1em;
        border-left: 2px solid var(--line-strong);
        color: var(--ink-2);
      }
      :not(pre) > code {
        padding: 0.1em 0.35em;
        border-radius: 4px;
        background: var(--sunken);
        font-size: 0.88em;
      }
      .scroll {
        overflow-x: auto;
      }
      table {
        border-collapse: collapse;
        font-size: 0.93em;
      }
      th,
      td {
        padding: 5px 12px 5px 0;
        border-bottom: 1px solid var(--line);
        text-align: left;
        vertical-align: top;
      }
      th {
        font-weight: 600;
      }
      [align="right"] {
        padding: 5px 0 5px 12px;
        text-align: right;
        font-variant-numeric: tabular-nums;
      }
      [align="center"] {
        text-align: center;
      }
      hr {
        border: 0;
        border-top: 1px solid var(--line);
      }
      :host([live]) .block:last-child > :last-child:not(figure)::after {
        content: "";
        display: inline-block;
        width: 7px;
        height: 1.05em;
        margin-left: 3px;
        vertical-align: -0.18em;
        background: var(--accent);
        animation: blink 1.1s steps(2) infinite;
      }
      @keyframes blink {
        50% {
          opacity: 0;
        }
      }
    `,
  ];

  @property() text = "";
  @property({ type: Boolean, reflect: true }) live = false;
  #drawn: string[] = [];

  override render() {
    return html`<div id="text"></div>`;
  }

  override updated(changed: PropertyValues): void {
    if (!changed.has("text")) return;
    const host = this.renderRoot.querySelector("#text");
    if (!host) return;
    const wanted = blocks(this.text);
    let same = 0;
    while (same < wanted.length && same < this.#drawn.length && wanted[same] === this.#drawn[same]) same += 1;
    while (host.children.length > same) host.lastElementChild?.remove();
    for (const content of wanted.slice(same)) {
      const block = document.createElement("div");
      block.className = "block";
      block.innerHTML = content;
      for (const pre of block.querySelectorAll("pre")) dressCode(pre);
      host.append(block);
    }
    this.#drawn = wanted;
  }
}
