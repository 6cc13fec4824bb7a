// The look of an open conversation.
import { css } from "lit";

export const threadStyles = css`
  :host {
    height: 100%;
  }
  .thread {
    height: 100%;
    display: grid;
    grid-template: auto auto minmax(0, 1fr) auto / minmax(0, 1fr);
  }
  header {
    grid-row: 1;
    display: flex;
    align-items: center;
    gap: var(--s2);
    min-height: 52px;
    padding: 0 var(--s3) 0 var(--s4);
    border-bottom: 1px solid var(--line);
  }
  h1 {
    flex: 1;
    min-width: 0;
    font-size: var(--text-l);
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
  }
  header input {
    flex: 1;
  }
  button.title {
    max-width: 100%;
    display: block;
    padding: 0 6px;
    margin-left: -6px;
    overflow: hidden;
    text-overflow: ellipsis;
    font: inherit;
    color: inherit;
    letter-spacing: inherit;
  }
  .actions {
    display: flex;
    gap: 2px;
    margin-left: auto;
  }
  .actions .button.icon,
  .back {
    width: var(--control);
    padding: 0;
  }
  [aria-pressed="true"] {
    background: var(--accent-soft) !important;
    color: var(--accent-ink) !important;
  }
  .back {
    display: none;
  }
  .resuming {
    grid-row: 2;
    display: flex;
    align-items: center;
    gap: var(--s2);
    padding: 6px var(--s4);
    background: var(--warn-soft);
    color: var(--warn);
    font-size: var(--text-s);
  }
  .spin {
    width: 12px;
    height: 12px;
    flex: none;
    border: 2px solid currentColor;
    border-right-color: transparent;
    border-radius: 50%;
    animation: turn 0.9s linear infinite;
  }
  @keyframes turn {
    to {
      rotate: 1turn;
    }
  }
  .turns {
    grid-row: 3;
    overflow-y: auto;
    outline-offset: -2px;
    overflow-anchor: auto;
  }
  .column {
    width: min(100%, calc(var(--measure) + 2 * var(--s5)));
    margin: 0 auto;
    padding: var(--s5) var(--s5) var(--s4);
    display: grid;
    grid-template-columns: minmax(0, 1fr);
    gap: var(--s5);
  }
  .earlier {
    justify-self: center;
  }
  .foot {
    grid-row: 4;
    position: relative;
    width: min(100%, calc(var(--measure) + 2 * var(--s5)));
    margin: 0 auto;
    padding: 0 var(--s5) var(--s4);
  }
  .latest {
    position: absolute;
    top: -42px;
    left: 50%;
    translate: -50% 0;
    border-radius: 99px;
    box-shadow: var(--shadow);
  }
  .trouble {
    display: grid;
    gap: var(--s3);
    max-width: 40rem;
    margin: var(--s6) auto;
    padding: 0 var(--s4);
  }
  @media (max-width: 760px) {
    .back {
      display: inline-flex;
    }
    header {
      padding: 0 var(--s2);
    }
    .column,
    .foot {
      padding-left: var(--s3);
      padding-right: var(--s3);
    }
    .foot {
      padding-bottom: max(var(--s2), env(safe-area-inset-bottom));
    }
  }
  @media (prefers-reduced-motion: reduce) {
    .spin {
      animation: none;
    }
  }
`;
