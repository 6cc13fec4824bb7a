// A button that opens a short list of actions. Arrow keys move, Escape closes, the focus comes back.
import { LitElement, css, html, nothing } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { base, buttons } from "../styles/controls";
import { icon, type IconName } from "./icon";

export interface MenuItem {
  label: string;
  icon?: IconName;
  danger?: boolean;
  checked?: boolean;
  run: () => void;
}

@customElement("soma-menu")
export class Menu extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      :host {
        display: inline-block;
        position: relative;
      }
      [role="menu"] {
        position: fixed;
        z-index: 30;
        min-width: 11rem;
        max-width: 20rem;
        padding: 4px;
        border: 1px solid var(--line);
        border-radius: 8px;
        background: var(--raised);
        box-shadow: var(--shadow);
      }
      [role^="menuitem"] {
        width: 100%;
        justify-content: flex-start;
        border: 0;
        background: transparent;
        color: var(--ink);
        font-weight: 450;
      }
      [role^="menuitem"]:focus-visible {
        outline-offset: -2px;
      }
      .danger {
        color: var(--bad) !important;
      }
      .mark {
        width: 16px;
        display: inline-flex;
      }
    `,
  ];

  @property() label = "Menu";
  @property({ attribute: false }) items: MenuItem[] = [];
  /** Class names of the button. */
  @property() look = "plain icon tiny";
  @state() private open = false;

  override render() {
    return html`<button
        class=${this.look}
        aria-haspopup="menu"
        aria-expanded=${this.open}
        aria-label=${this.label}
        title=${this.label}
        @click=${this.#toggle}
      >
        <slot>${icon("more")}</slot>
      </button>
      ${this.open ? this.#menu() : nothing}`;
  }

  #menu() {
    return html`<div role="menu" aria-label=${this.label} @keydown=${this.#key} @focusout=${this.#left}>
      ${this.items.map(
        (item) =>
          html`<button
            role=${item.checked === undefined ? "menuitem" : "menuitemradio"}
            aria-checked=${item.checked === undefined ? nothing : item.checked}
            class=${item.danger ? "danger" : ""}
            @click=${(event: Event) => this.#choose(event, item)}
          >
            <span class="mark">${item.checked ? icon("check") : item.icon ? icon(item.icon) : nothing}</span>${item.label}
          </button>`,
      )}
    </div>`;
  }

  #button(): HTMLButtonElement | null {
    return this.renderRoot.querySelector("button");
  }

  async #toggle(event: Event): Promise<void> {
    event.preventDefault();
    event.stopPropagation();
    this.open = !this.open;
    if (!this.open) return;
    await this.updateComplete;
    const menu = this.renderRoot.querySelector<HTMLElement>('[role="menu"]');
    const at = this.#button()?.getBoundingClientRect();
    if (!menu || !at) return;
    const { offsetWidth: width, offsetHeight: height } = menu;
    const left = Math.min(Math.max(8, at.right - width), innerWidth - width - 8);
    const below = at.bottom + 4 + height < innerHeight;
    menu.style.left = `${left}px`;
    menu.style.top = `${below ? at.bottom + 4 : Math.max(8, at.top - height - 4)}px`;
    menu.querySelector<HTMLElement>("button")?.focus();
  }

  #choose(event: Event, item: MenuItem): void {
    event.preventDefault();
    event.stopPropagation();
    this.open = false;
    this.#button()?.focus();
    item.run();
  }

  #left(event: FocusEvent): void {
    const to = event.relatedTarget as Node | null;
    if (to && this.renderRoot.querySelector('[role="menu"]')?.contains(to)) return;
    if (to !== this.#button()) this.open = false;
  }

  #key(event: KeyboardEvent): void {
    const items = [...this.renderRoot.querySelectorAll<HTMLElement>('[role^="menuitem"]')];
    const at = items.indexOf(this.shadowRoot?.activeElement as HTMLElement);
    const step: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 };
    if (event.key === "Escape" || event.key === "Tab") {
      this.open = false;
      this.#button()?.focus();
      event.stopPropagation();
    } else if (event.key in step) {
      items[((step[event.key] ?? 0) + items.length) % items.length]?.focus();
    } else return;
    event.preventDefault();
  }
}
