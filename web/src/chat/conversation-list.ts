// The conversations of the tenant, newest first: search, rename, archive, delete, each of which can be undone.
import { LitElement, html, nothing } from "lit";
import { customElement, property, query, state } from "lit/decorators.js";
import { repeat } from "lit/directives/repeat.js";
import { asProblem, type Problem } from "../api/problem";
import type { Conversation, SearchHit } from "../api/types";
import { navigate } from "../app/router";
import { can, session } from "../app/session";
import { Watch } from "../app/store";
import { attempt } from "../app/toasts";
import { base, buttons, fields, tags } from "../styles/controls";
import { ago } from "../text/format";
import "../ui/empty";
import { icon } from "../ui/icon";
import "../ui/menu";
import type { MenuItem } from "../ui/menu";
import "../ui/problem-note";
import * as conversations from "./conversations";
import { listStyles } from "./list-styles";

const SEARCH_WAIT_MS = 220;

@customElement("soma-conversations")
export class ConversationList extends LitElement {
  static override styles = [base, buttons, fields, tags, listStyles];

  @property() selected = "";
  @state() private words = "";
  @state() private hits: SearchHit[] | null = null;
  @state() private searchProblem: Problem | null = null;
  @state() private renaming = "";
  @query("input[type=search]") private field!: HTMLInputElement | null;
  #watch = new Watch(this, conversations.list, session);
  #timer = 0;
  #focusSearch = () => this.field?.focus();

  override connectedCallback(): void {
    super.connectedCallback();
    addEventListener("soma-search", this.#focusSearch);
    void this.#watch;
    void conversations.readList();
  }

  override disconnectedCallback(): void {
    super.disconnectedCallback();
    removeEventListener("soma-search", this.#focusSearch);
  }

  override render() {
    const { items, archived, loading, problem, cursor } = conversations.list.value;
    return html`<section aria-label="Conversations">
      <header>
        <h1>${archived ? "Archive" : "Conversations"}</h1>
        ${can("conversation:create")
          ? html`<a class="button primary tiny" href="/chat/new">${icon("plus", 14)} New</a>`
          : nothing}
      </header>
      ${can("conversation:search")
        ? html`<div class="search" role="search">
            ${icon("search", 15)}
            <input
              type="search"
              placeholder="Search messages"
              aria-label="Search messages"
              .value=${this.words}
              @input=${this.#typed}
            />
          </div>`
        : nothing}
      <div class="scroll" @scroll=${this.#scrolled}>
        ${problem ? html`<soma-problem .problem=${problem} .retry=${() => void conversations.readList()}></soma-problem>` : nothing}
        ${this.words.trim()
          ? this.#results()
          : html`<ul>
                ${repeat(items, (item) => item.id, (item) => this.#item(item))}
              </ul>
              ${items.length === 0 && !loading && !problem ? this.#nothing(archived) : nothing}
              ${cursor ? html`<button class="plain tiny" @click=${() => void conversations.readMore()}>Older</button>` : nothing}`}
      </div>
      <footer>
        <button class="plain tiny" @click=${() => void conversations.readList(!archived)}>
          ${icon(archived ? "left" : "archive", 14)} ${archived ? "Back to conversations" : "Archive"}
        </button>
      </footer>
    </section>`;
  }

  #nothing(archived: boolean) {
    return archived
      ? html`<soma-empty heading="The archive is empty" text="What you archive is kept here."></soma-empty>`
      : html`<soma-empty heading="No conversations yet" text="Begin one: everything that is said and done in it is kept."></soma-empty>`;
  }

  #item(item: Conversation) {
    const title = item.title || "Untitled";
    if (this.renaming === item.id) {
      return html`<li>
        <input
          class="rename"
          aria-label="New title"
          maxlength="200"
          .value=${item.title ?? ""}
          @keydown=${(event: KeyboardEvent) => this.#renameKey(event, item)}
          @blur=${(event: FocusEvent) => this.#rename(event.target as HTMLInputElement, item)}
        />
      </li>`;
    }
    const menu = this.#menu(item);
    return html`<li class=${this.selected === item.id ? "selected" : ""}>
      <a href="/chat/${item.id}" aria-current=${this.selected === item.id ? "page" : nothing}>
        <span class="title">${title}</span>
        <span class="when">${this.#state(item)}${ago(item.updated_at ?? item.created_at)}</span>
      </a>
      ${menu.length > 0 ? html`<soma-menu label="Actions for ${title}" .items=${menu}></soma-menu>` : nothing}
    </li>`;
  }

  #state(item: Conversation) {
    switch (item.last_run_state) {
      case "waiting":
        return html`<span class="tag warn">waits for approval</span>`;
      case "running":
      case "queued":
      case "cancelling":
        return html`<span class="working" title="At work"><span class="hidden-text">at work, </span></span>`;
      case "failed":
        return html`<span class="tag bad">failed</span>`;
      default:
        return nothing;
    }
  }

  #menu(item: Conversation): MenuItem[] {
    const items: MenuItem[] = [];
    if (can("conversation:update")) {
      const archived = conversations.list.value.archived;
      items.push(
        { label: "Rename", icon: "edit", run: () => void this.#startRename(item.id) },
        {
          label: archived ? "Bring back" : "Archive",
          icon: archived ? "restore" : "archive",
          run: () => void this.#left(item.id, () => conversations.archive(item.id, !archived)),
        },
      );
    }
    if (can("conversation:delete")) {
      items.push({
        label: "Delete",
        icon: "trash",
        danger: true,
        run: () => void this.#left(item.id, () => conversations.remove(item.id)),
      });
    }
    return items;
  }

  async #left(id: string, work: () => Promise<void>): Promise<void> {
    if ((await attempt(work)) && this.selected === id) navigate("/chat");
  }

  async #startRename(id: string): Promise<void> {
    this.renaming = id;
    await this.updateComplete;
    const field = this.renderRoot.querySelector<HTMLInputElement>(".rename");
    field?.focus();
    field?.select();
  }

  #renameKey(event: KeyboardEvent, item: Conversation): void {
    if (event.key === "Enter") void this.#rename(event.target as HTMLInputElement, item);
    else if (event.key === "Escape") this.renaming = "";
  }

  async #rename(field: HTMLInputElement, item: Conversation): Promise<void> {
    if (this.renaming !== item.id) return;
    this.renaming = "";
    const title = field.value.trim();
    if (title && title !== item.title) await attempt(() => conversations.rename(item.id, title));
  }

  #typed(event: InputEvent): void {
    this.words = (event.target as HTMLInputElement).value;
    window.clearTimeout(this.#timer);
    this.#timer = window.setTimeout(() => void this.#search(), SEARCH_WAIT_MS);
  }

  async #search(): Promise<void> {
    const words = this.words.trim();
    if (!words) {
      this.hits = null;
      return;
    }
    try {
      const hits = await conversations.search(words);
      // An answer that comes late is for other words.
      if (words === this.words.trim()) {
        this.hits = hits;
        this.searchProblem = null;
      }
    } catch (error) {
      this.searchProblem = asProblem(error);
    }
  }

  #results() {
    if (this.searchProblem) return html`<soma-problem .problem=${this.searchProblem}></soma-problem>`;
    if (!this.hits) return nothing;
    if (this.hits.length === 0) {
      return html`<soma-empty heading="Nothing found" text="No message has these words."></soma-empty>`;
    }
    return html`<ul aria-label="Found messages">
      ${this.hits.map(
        (hit) =>
          html`<li>
            <a href="/chat/${hit.conversation_id}#${hit.message_id}">
              <span class="title">${hit.title || "Untitled"}</span>
              <span class="snippet">${hit.snippet}</span>
              <span class="when">${ago(hit.created_at)}</span>
            </a>
          </li>`,
      )}
    </ul>`;
  }

  #scrolled(event: Event): void {
    const { scrollTop, clientHeight, scrollHeight } = event.target as HTMLElement;
    if (scrollTop + clientHeight > scrollHeight - 200) void conversations.readMore();
  }
}
