// Markdown of a model, as HTML that can be shown: parsed, then sanitised. Nothing a model writes runs, loads or posts.
import DOMPurify from "dompurify";
import { Marked, type Tokens } from "marked";

const escape = (text: string) =>
  text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // Raw HTML is shown as the text that it is.
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escape(text),
    // A remote image would tell its server who reads this: it becomes a link.
    image: ({ href, text }: Tokens.Image) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    code: ({ text, lang }: Tokens.Code) => {
      const language = (lang ?? "").split(/\s/)[0] ?? "";
      return `<pre data-language="${escape(language)}"><code>${escape(text)}</code></pre>\n`;
    },
    table(token: Tokens.Table) {
      const row = (cells: Tokens.TableCell[], tag: string) =>
        `<tr>${cells.map((cell) => `<${tag}${cell.align ? ` align="${cell.align}"` : ""}>${this.parser.parseInline(cell.tokens)}</${tag}>`).join("")}</tr>`;
      const body = token.rows.map((cells) => row(cells, "td")).join("");
      return `<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead>${row(token.header, "th")}</thead><tbody>${body}</tbody></table></div>`;
    },
  },
});

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

const OPTIONS = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "input", "li",
    "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ],
  ALLOWED_ATTR: ["href", "class", "data-language", "start", "type", "checked", "disabled", "tabindex", "role", "aria-label", "align"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  // Else their values would have to be addresses, and they would be dropped.
  ADD_URI_SAFE_ATTR: ["align", "checked", "disabled", "start", "tabindex", "type"],
};

/** Sanitised HTML of a whole or a half-finished text. */
export function render(text: string): string {
  return purifier.sanitize(marked.parse(text, { async: false }), OPTIONS);
}

/** The same, one piece for each block of the text, so that a growing text need not be drawn anew. */
export function blocks(text: string): string[] {
  const tokens = marked.lexer(text);
  const links = tokens.links;
  return tokens
    .filter((token) => token.type !== "space")
    .map((token) => purifier.sanitize(marked.parser(Object.assign([token], { links })), OPTIONS));
}
