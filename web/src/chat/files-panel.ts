// Files of a conversation's workspace: what the agent's tools read and write. List, download, upload, delete.
import { LitElement, css, html, nothing, type PropertyValues } from "lit";
import { customElement, property, state } from "lit/decorators.js";
import { address, api, send } from "../api/client";
import { asProblem, type Problem } from "../api/problem";
import type { WorkspaceFile } from "../api/types";
import { can } from "../app/session";
import { attempt, say } from "../app/toasts";
import { base, buttons } from "../styles/controls";
import { ago, bytes } from "../text/format";
import "../ui/empty";
import { icon } from "../ui/icon";
import "../ui/problem-note";

@customElement("soma-files")
export class FilesPanel extends LitElement {
  static override styles = [
    base,
    buttons,
    css`
      section {
        height: 100%;
        display: flex;
        flex-direction: column;
      }
      header {
        display: flex;
        align-items: center;
        gap: 2px;
        min-height: 52px;
        padding: 0 var(--s2) 0 var(--s4);
        border-bottom: 1px solid var(--line);
      }
      h2 {
        margin-right: auto;
      }
      .scroll {
        flex: 1;
        overflow-y: auto;
        padding: var(--s2);
      }
      .scroll.drop {
        outline: 2px dashed var(--accent);
        outline-offset: -6px;
      }
      ul {
        list-style: none;
      }
      li {
        display: flex;
        align-items: center;
        gap: 8px;
        padding: 3px 4px 3px 8px;
        border-radius: var(--radius);
      }
      li:hover,
      li:focus-within {
        background: var(--hover);
      }
      li svg {
        flex: none;
        color: var(--ink-3);
      }
      .name {
        flex: 1;
        min-width: 0;
        display: grid;
      }
      .name a,
      .name button {
        justify-content: flex-start;
        min-height: 0;
        padding: 0;
        border: 0;
        background: none;
        color: var(--ink);
        font: 450 var(--text-s) / 1.45 var(--sans);
        text-decoration: none;
        overflow: hidden;
        text-overflow: ellipsis;
        white-space: nowrap;
      }
      .name a:hover {
        text-decoration: underline;
      }
      .name span {
        font-size: var(--text-xs);
        color: var(--ink-3);
      }
      .path {
        padding: 6px 8px;
        font-size: var(--text-xs);
      }
    `,
  ];

  @property() conversation = "";
  @state() private path = "";
  @state() private files: WorkspaceFile[] | null = null;
  @state() private problem: Problem | null = null;
  @state() private dropping = false;
  @state() private uploading = false;

  protected override willUpdate(changed: PropertyValues): void {
    if (changed.has("conversation")) {
      this.path = "";
      void this.#read();
    }
  }

  #url(path: string): string {
    return address(`/conversations/${this.conversation}/files/content`, { path });
  }

  async #read(): Promise<void> {
    this.problem = null;
    try {
      this.files = await api.all<WorkspaceFile>(`/conversations/${this.conversation}/files`, { path: this.path });
    } catch (error) {
      this.problem = asProblem(error);
    }
  }

  override render() {
    return html`<section aria-label="Files">
      <header>
        <h2>Files</h2>
        <button class="plain icon" aria-label="Read again" title="Read again" @click=${() => void this.#read()}>
          ${icon("again")}
        </button>
        ${can("file:upload")
          ? html`<button class="plain icon" aria-label="Upload" title="Upload" ?disabled=${this.uploading} @click=${this.#choose}>
                ${icon("upload")}
              </button>
              <input type="file" multiple hidden @change=${this.#chosen} />`
          : nothing}
        <button class="plain icon" aria-label="Close the files" @click=${() => this.dispatchEvent(new CustomEvent("closed"))}>
          ${icon("close")}
        </button>
      </header>
      <div
        class="scroll ${this.dropping ? "drop" : ""}"
        @dragover=${this.#over}
        @dragleave=${() => (this.dropping = false)}
        @drop=${this.#dropped}
      >
        ${this.problem ? html`<soma-problem .problem=${this.problem} .retry=${() => void this.#read()}></soma-problem>` : nothing}
        ${this.path
          ? html`<div class="path">
              <button class="plain tiny" @click=${() => void this.#enter(this.path.split("/").slice(0, -1).join("/"))}>
                ${icon("left", 13)} ${this.path}
              </button>
            </div>`
          : nothing}
        <ul>
          ${(this.files ?? []).map((file) => this.#file(file))}
        </ul>
        ${this.files?.length === 0 && !this.problem
          ? html`<soma-empty heading="No files" text="What the agent writes is here. Files that you drop here, it can read."></soma-empty>`
          : nothing}
      </div>
    </section>`;
  }

  #file(file: WorkspaceFile) {
    const folder = file.kind === "directory" || file.kind === "folder";
    return html`<li>
      ${icon(folder ? "folder" : "file")}
      <span class="name">
        ${folder
          ? html`<button @click=${() => void this.#enter(file.path)}>${file.name}</button>`
          : html`<a href=${this.#url(file.path)} download=${file.name}>${file.name}</a>
              <span>${bytes(file.size)} · ${ago(file.modified_at)}</span>`}
      </span>
      ${!folder && can("file:delete")
        ? html`<button class="plain tiny icon" aria-label="Delete ${file.name}" @click=${() => void this.#delete(file)}>
            ${icon("trash", 14)}
          </button>`
        : nothing}
    </li>`;
  }

  async #enter(path: string): Promise<void> {
    this.path = path;
    await this.#read();
  }

  #choose(): void {
    this.renderRoot.querySelector<HTMLInputElement>('input[type="file"]')?.click();
  }

  #chosen(event: Event): void {
    const input = event.target as HTMLInputElement;
    const files = [...(input.files ?? [])];
    input.value = "";
    void this.#upload(files);
  }

  #over(event: DragEvent): void {
    if (!can("file:upload")) return;
    event.preventDefault();
    this.dropping = true;
  }

  #dropped(event: DragEvent): void {
    event.preventDefault();
    this.dropping = false;
    void this.#upload([...(event.dataTransfer?.files ?? [])]);
  }

  async #upload(files: File[]): Promise<void> {
    this.uploading = true;
    for (const file of files) {
      const path = this.path ? `${this.path}/${file.name}` : file.name;
      await attempt(() => send(this.#url(path), { method: "PUT", body: file }), `${file.name} was uploaded.`);
    }
    this.uploading = false;
    await this.#read();
  }

  /** The content is kept until the note goes, so that a deletion can be undone. */
  async #delete(file: WorkspaceFile): Promise<void> {
    let content: Blob | undefined;
    const deleted = await attempt(async () => {
      content = await (await send(this.#url(file.path))).blob();
      await send(this.#url(file.path), { method: "DELETE" });
    });
    if (!deleted) return;
    await this.#read();
    say(`${file.name} was deleted.`, async () => {
      await send(this.#url(file.path), { method: "PUT", body: content ?? new Blob() });
      await this.#read();
    });
  }
}
