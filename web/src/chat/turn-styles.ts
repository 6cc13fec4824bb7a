// The look of a turn: the question set off, the answer along a line with a knot for everything that was done.
import { css } from "lit";

export const turnStyles = css`
  article {
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    gap: var(--s3);
  }
  .asked {
    display: grid;
    gap: 4px;
    justify-items: end;
  }
  .words {
    max-width: min(100%, 38rem);
    padding: 9px 14px;
    border-radius: 12px 12px 3px 12px;
    background: var(--accent-soft);
    color: var(--ink);
    font-size: var(--text-l);
    line-height: 1.55;
    white-space: pre-wrap;
    overflow-wrap: anywhere;
  }
  .editing {
    justify-items: stretch;
    gap: var(--s2);
  }
  .editing textarea {
    font-size: var(--text-l);
  }
  .tools,
  footer {
    display: flex;
    align-items: center;
    gap: 2px;
    min-height: 26px;
    font-size: var(--text-xs);
    color: var(--ink-3);
  }
  .tools time {
    padding: 0 6px;
  }
  .switcher {
    display: inline-flex;
    align-items: center;
  }
  .switcher .number {
    min-width: 2.4em;
    text-align: center;
  }
  .answer {
    position: relative;
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    gap: var(--s3);
    padding-left: 26px;
  }
  /* The line, and on it a knot for each part. */
  .answer::before {
    content: "";
    position: absolute;
    left: 6px;
    top: 12px;
    bottom: 6px;
    width: 1px;
    background: var(--line-strong);
  }
  .part {
    position: relative;
    min-width: 0;
  }
  .part::before {
    content: "";
    position: absolute;
    left: -24px;
    top: 8px;
    width: 9px;
    height: 9px;
    border-radius: 50%;
    border: 1.5px solid var(--accent);
    background: var(--paper);
  }
  .said::before {
    background: var(--accent);
  }
  .did::before {
    top: 12px;
    border-radius: 2px;
    border-color: var(--ink-3);
  }
  .failed::before {
    border-color: var(--bad);
    background: var(--bad);
  }
  .stopped::before {
    border-color: var(--ink-3);
  }
  .thinking,
  .stopped {
    color: var(--ink-3);
    font-size: var(--text-s);
    line-height: 25px;
  }
  .thinking::before {
    animation: pulse 1.4s ease-in-out infinite;
  }
  @keyframes pulse {
    50% {
      background: var(--accent);
    }
  }
  .failed {
    padding: 3px 0;
    color: var(--bad);
    font-size: var(--text-s);
  }
  footer {
    padding-left: 20px;
  }
  .facts {
    padding: 0 6px;
    color: inherit;
    text-decoration: none;
    font-variant-numeric: tabular-nums;
  }
  .facts:hover {
    text-decoration: underline;
  }
  @media (prefers-reduced-motion: reduce) {
    .thinking::before {
      animation: none;
    }
  }
`;
