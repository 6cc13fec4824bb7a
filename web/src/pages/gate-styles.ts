// What the pages before sign-in share: one quiet card.
import { css } from "lit";

export const gateStyles = css`
  :host {
    width: min(24rem, 100%);
  }
  header {
    display: grid;
    gap: var(--s3);
    justify-items: start;
    margin-bottom: var(--s5);
    color: var(--ink-2);
  }
  header svg {
    color: var(--accent);
  }
  h1 {
    color: var(--ink);
    font-size: var(--text-2xl);
    letter-spacing: -0.02em;
  }
  button[type="submit"],
  .wide {
    width: 100%;
    min-height: 38px;
  }
  p.wrong,
  header + soma-problem {
    margin-bottom: var(--s4);
  }
  .or {
    display: flex;
    align-items: center;
    gap: var(--s3);
    margin: var(--s4) 0;
    color: var(--ink-3);
    font-size: var(--text-s);
  }
  .or::before,
  .or::after {
    content: "";
    flex: 1;
    height: 1px;
    background: var(--line);
  }
  .below {
    margin-top: var(--s4);
    font-size: var(--text-s);
    color: var(--ink-3);
  }
  .done {
    padding: var(--s3);
    border-radius: var(--radius);
    background: var(--good-soft);
    color: var(--good);
    font-size: var(--text-s);
  }
`;
