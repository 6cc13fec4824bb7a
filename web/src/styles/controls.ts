// Styles that many components share: text, buttons, fields, tables, tags. Colours and sizes are tokens.
import { css } from "lit";

export const base = css`
  *,
  *::before,
  *::after {
    box-sizing: border-box;
  }
  :host {
    display: block;
  }
  :host([hidden]),
  [hidden] {
    display: none !important;
  }
  h1,
  h2,
  h3,
  p,
  ul,
  ol,
  dl,
  dd,
  figure,
  pre {
    margin: 0;
    padding: 0;
  }
  h1 {
    font-size: var(--text-xl);
    line-height: 1.25;
    font-weight: 620;
    letter-spacing: -0.012em;
  }
  h2 {
    font-size: var(--text-l);
    font-weight: 620;
    letter-spacing: -0.005em;
  }
  h3 {
    font-size: var(--text-s);
    font-weight: 620;
  }
  a {
    color: var(--accent);
    text-decoration-thickness: 1px;
    text-underline-offset: 3px;
  }
  :focus-visible {
    outline: 2px solid var(--accent);
    outline-offset: 2px;
    border-radius: 3px;
  }
  code,
  .mono {
    font-family: var(--mono);
    font-size: 0.925em;
  }
  .number {
    font-variant-numeric: tabular-nums;
    text-align: right;
  }
  .quiet {
    color: var(--ink-3);
  }
  .small {
    font-size: var(--text-s);
  }
  .hidden-text {
    position: absolute;
    width: 1px;
    height: 1px;
    overflow: hidden;
    clip-path: inset(50%);
    white-space: nowrap;
  }
  .row {
    display: flex;
    align-items: center;
    gap: var(--s2);
    flex-wrap: wrap;
  }
  .spread {
    justify-content: space-between;
  }
  .stack {
    display: grid;
    gap: var(--s4);
  }
  .caps {
    font: 500 var(--text-xs) / 1.4 var(--mono);
    color: var(--ink-3);
  }
`;

export const buttons = css`
  button,
  .button {
    display: inline-flex;
    align-items: center;
    justify-content: center;
    gap: 6px;
    min-height: var(--control);
    padding: 0 12px;
    border: 1px solid var(--line-strong);
    border-radius: var(--radius);
    background: var(--raised);
    color: var(--ink);
    font: 500 var(--text-s) / 1 var(--sans);
    text-decoration: none;
    white-space: nowrap;
    cursor: pointer;
    transition:
      background 0.12s,
      border-color 0.12s;
  }
  button:hover:not(:disabled),
  .button:hover {
    background: var(--hover);
  }
  button:disabled {
    opacity: 0.5;
    cursor: not-allowed;
  }
  button.primary,
  .button.primary {
    background: var(--accent);
    border-color: var(--accent);
    color: var(--on-accent);
  }
  button.primary:hover:not(:disabled),
  .button.primary:hover {
    background: var(--accent-strong);
    border-color: var(--accent-strong);
  }
  button.danger {
    color: var(--bad);
    border-color: color-mix(in srgb, var(--bad) 45%, transparent);
  }
  button.danger:hover:not(:disabled) {
    background: var(--bad-soft);
  }
  button.plain,
  .button.plain {
    border-color: transparent;
    background: transparent;
    color: var(--ink-2);
  }
  button.plain:hover:not(:disabled),
  .button.plain:hover {
    background: var(--hover);
    color: var(--ink);
  }
  button.icon {
    width: var(--control);
    padding: 0;
  }
  button.tiny,
  .button.tiny {
    min-height: 26px;
    padding: 0 8px;
    font-size: var(--text-xs);
  }
  button.tiny.icon {
    width: 26px;
    padding: 0;
  }
  @media (pointer: coarse) {
    button,
    .button {
      min-height: 38px;
    }
    button.icon {
      width: 38px;
    }
    button.tiny {
      min-height: 32px;
    }
    button.tiny.icon {
      width: 32px;
    }
  }
  @media (prefers-reduced-motion: reduce) {
    * {
      transition: none !important;
      animation: none !important;
    }
  }
`;

export const fields = css`
  label,
  .label {
    display: grid;
    gap: 5px;
    font-size: var(--text-s);
    font-weight: 520;
    color: var(--ink-2);
  }
  .hint {
    font-size: var(--text-xs);
    font-weight: 400;
    color: var(--ink-3);
    line-height: 1.45;
  }
  .wrong {
    font-size: var(--text-s);
    font-weight: 450;
    color: var(--bad);
  }
  input:not([type="checkbox"], [type="radio"]),
  select,
  textarea {
    width: 100%;
    min-height: var(--control);
    padding: 5px 9px;
    border: 1px solid var(--line-strong);
    border-radius: var(--radius);
    background: var(--raised);
    color: var(--ink);
    font: 400 var(--text-m) / 1.45 var(--sans);
  }
  textarea {
    resize: vertical;
  }
  textarea.code,
  input.code {
    font-family: var(--mono);
    font-size: var(--text-s);
  }
  ::placeholder {
    color: var(--ink-3);
    opacity: 1;
  }
  input:focus-visible,
  select:focus-visible,
  textarea:focus-visible {
    outline: 2px solid var(--accent);
    outline-offset: -1px;
    border-color: var(--accent);
  }
  input[type="checkbox"],
  input[type="radio"] {
    width: 16px;
    height: 16px;
    margin: 0;
    accent-color: var(--accent);
    flex: none;
  }
  label.check {
    display: flex;
    align-items: flex-start;
    gap: 8px;
    font-weight: 420;
    color: var(--ink);
    line-height: 1.35;
  }
  fieldset {
    margin: 0;
    padding: 0;
    border: 0;
    min-width: 0;
  }
  legend {
    padding: 0;
    margin-bottom: 6px;
    font-size: var(--text-s);
    font-weight: 520;
    color: var(--ink-2);
  }
  form {
    display: grid;
    gap: var(--s4);
  }
  .columns {
    display: grid;
    gap: var(--s3) var(--s4);
    grid-template-columns: repeat(auto-fit, minmax(min(100%, 12rem), 1fr));
    align-items: start;
  }
  @media (pointer: coarse) {
    input,
    select,
    textarea {
      /* Smaller text makes phones zoom into the field. */
      font-size: 16px !important;
    }
  }
`;

export const tables = css`
  .table {
    position: relative;
    overflow-x: auto;
    border: 1px solid var(--line);
    border-radius: var(--radius-l);
    background: var(--raised);
  }
  table {
    /* As wide as its words want, each cell up to a bound; what does not fit scrolls inside. */
    width: max-content;
    min-width: 100%;
    border-collapse: collapse;
    font-size: var(--text-s);
  }
  th {
    padding: 8px 12px;
    text-align: left;
    font-weight: 520;
    font-size: var(--text-xs);
    color: var(--ink-3);
    border-bottom: 1px solid var(--line);
    white-space: nowrap;
  }
  td {
    padding: 7px 12px;
    max-width: 24rem;
    border-top: 1px solid var(--line);
    vertical-align: middle;
  }
  @media (max-width: 760px) {
    td {
      max-width: 15rem;
    }
  }
  tbody tr:first-child td {
    border-top: 0;
  }
  tbody tr:hover {
    background: color-mix(in srgb, var(--hover) 45%, transparent);
  }
  td.act {
    width: 1%;
    white-space: nowrap;
    text-align: right;
  }
  th.number {
    text-align: right;
  }
`;

export const tags = css`
  .tag {
    display: inline-flex;
    align-items: center;
    gap: 4px;
    padding: 1px 7px;
    border-radius: 4px;
    background: var(--sunken);
    color: var(--ink-2);
    font: 500 var(--text-xs) / 1.55 var(--sans);
    white-space: nowrap;
  }
  .tag.good {
    background: var(--good-soft);
    color: var(--good);
  }
  .tag.warn {
    background: var(--warn-soft);
    color: var(--warn);
  }
  .tag.bad {
    background: var(--bad-soft);
    color: var(--bad);
  }
  .tag.info {
    background: var(--info-soft);
    color: var(--info);
  }
  .tag.accent {
    background: var(--accent-soft);
    color: var(--accent-ink);
  }
`;

/** Parts of a page, each with an address. */
export const tabs = css`
  nav.tabs {
    display: flex;
    gap: var(--s4);
    margin-bottom: var(--s4);
    border-bottom: 1px solid var(--line);
    overflow-x: auto;
  }
  nav.tabs a {
    padding: 6px 1px;
    border-bottom: 2px solid transparent;
    color: var(--ink-2);
    font-size: var(--text-s);
    font-weight: 520;
    text-decoration: none;
    white-space: nowrap;
  }
  nav.tabs a[aria-current] {
    color: var(--ink);
    border-color: var(--accent);
  }
`;

/** What a page of records needs. */
export const page = [base, buttons, fields, tables, tags];
