// Blocks of code: a quiet sheet, a bar with the language and a copy button, and colours that are tokens.
import { css } from "lit";

export const codeStyles = css`
  figure.code {
    margin: 0;
    border: 1px solid var(--line);
    border-radius: var(--radius);
    background: var(--raised);
    overflow: hidden;
  }
  figure.code figcaption {
    display: flex;
    align-items: center;
    justify-content: space-between;
    min-height: 30px;
    padding: 0 4px 0 12px;
    border-bottom: 1px solid var(--line);
    background: var(--paper);
    color: var(--ink-3);
    font: 500 var(--text-xs) / 1 var(--mono);
  }
  pre {
    padding: 10px 12px;
    overflow-x: auto;
    font: 400 var(--text-s) / 1.55 var(--mono);
    color: var(--code-ink);
    tab-size: 4;
    overflow-wrap: normal;
  }
  pre code {
    font-size: inherit;
  }
  .hljs-comment,
  .hljs-quote {
    color: var(--code-comment);
  }
  .hljs-keyword,
  .hljs-selector-tag,
  .hljs-literal,
  .hljs-meta,
  .hljs-name {
    color: var(--code-keyword);
  }
  .hljs-string,
  .hljs-regexp,
  .hljs-addition,
  .hljs-symbol {
    color: var(--code-string);
  }
  .hljs-number,
  .hljs-attr,
  .hljs-attribute,
  .hljs-variable,
  .hljs-template-variable {
    color: var(--code-number);
  }
  .hljs-title,
  .hljs-section,
  .hljs-built_in,
  .hljs-type,
  .hljs-property {
    color: var(--code-title);
  }
  .hljs-deletion {
    color: var(--bad);
  }
`;
