// The chat page: conversations, the one that is open, and beside it the files of its workspace.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { base } from "../styles/controls";
import "./conversation-list";
import "./files-panel";
import "./new-conversation";
import "./thread-view";

@customElement("soma-chat")
export class ChatPage extends LitElement {
  static override styles = [
    base,
    css`
      :host {
        height: 100%;
        display: grid;
        grid-template-columns: 268px minmax(0, 1fr) auto;
        grid-template-rows: minmax(0, 1fr);
      }
      soma-conversations {
        border-right: 1px solid var(--line);
        min-height: 0;
      }
      soma-files {
        width: 300px;
        border-left: 1px solid var(--line);
        min-height: 0;
      }
      @media (max-width: 1080px) {
        :host {
          grid-template-columns: 232px minmax(0, 1fr);
        }
        soma-files {
          position: fixed;
          inset: 0 0 0 auto;
          z-index: 15;
          width: min(320px, 100vw);
          background: var(--paper);
          box-shadow: var(--shadow);
        }
      }
      @media (max-width: 760px) {
        :host {
          grid-template-columns: minmax(0, 1fr);
        }
        :host([open]) soma-conversations,
        :host(:not([open])) .middle {
          display: none;
        }
        soma-conversations {
          border-right: 0;
        }
        soma-files {
          width: 100vw;
          border-left: 0;
        }
      }
      .middle {
        min-width: 0;
        min-height: 0;
      }
    `,
  ];

  /** Its id, `new`, or nothing. */
  @property() conversation = "";
  @state() private files = false;

  override render() {
    this.toggleAttribute("open", this.conversation !== "");
    const open = this.conversation !== "" && this.conversation !== "new";
    return html`
      <soma-conversations .selected=${this.conversation}></soma-conversations>
      <div class="middle">
        ${open
          ? html`<soma-thread
              .conversation=${this.conversation}
              .files=${this.files}
              @files=${() => (this.files = !this.files)}
            ></soma-thread>`
          : html`<soma-new-conversation></soma-new-conversation>`}
      </div>
      ${open && this.files
        ? html`<soma-files .conversation=${this.conversation} @closed=${() => (this.files = false)}></soma-files>`
        : nothing}
    `;
  }
}
