// The frame's own styles: the navigation beside the page, or above it on a phone.
import { css } from "lit";

export const shellStyles = css`
  :host {
    display: flex;
    flex-direction: column;
    height: 100dvh;
  }
  .frame {
    flex: 1;
    min-height: 0;
    display: grid;
    grid-template: minmax(0, 1fr) / auto minmax(0, 1fr);
  }
  main {
    overflow: auto;
    padding: var(--s5) clamp(var(--s4), 3vw, var(--s6)) var(--s6);
    outline: none;
  }
  main.full {
    padding: 0;
    overflow: hidden;
  }
  .middle {
    flex: 1;
    display: grid;
    place-items: center;
    padding: var(--s4);
  }
  .waiting {
    flex: 1;
    display: grid;
    place-items: center;
    color: var(--ink-3);
    animation: breathe 1.6s ease-in-out infinite;
  }
  @keyframes breathe {
    50% {
      opacity: 0.35;
    }
  }
  .bar {
    display: none;
  }
  .brand {
    display: inline-flex;
    align-items: center;
    gap: 8px;
    font-weight: 620;
    font-size: var(--text-l);
    color: var(--ink);
    text-decoration: none;
  }
  .brand svg {
    color: var(--accent);
  }
  .skip {
    position: absolute;
    left: 8px;
    top: -60px;
    z-index: 50;
    padding: 8px 12px;
    border-radius: var(--radius);
    background: var(--accent);
    color: var(--on-accent);
  }
  .skip:focus {
    top: 8px;
  }
  .impersonating {
    display: flex;
    align-items: center;
    justify-content: space-between;
    gap: var(--s3);
    padding: 6px var(--s4);
    background: var(--warn-soft);
    color: var(--warn);
    font-size: var(--text-s);
  }
  .impersonating svg {
    vertical-align: -3px;
  }
  .lost {
    display: grid;
    gap: var(--s2);
    padding-top: var(--s6);
    text-align: center;
  }
  .scrim {
    display: none;
  }
  @media (max-width: 760px) {
    .frame {
      grid-template: auto minmax(0, 1fr) / minmax(0, 1fr);
    }
    .bar {
      display: flex;
      align-items: center;
      gap: var(--s2);
      padding: 4px var(--s2);
      border-bottom: 1px solid var(--line);
    }
    .scrim {
      display: block;
      position: fixed;
      inset: 0;
      z-index: 18;
      background: var(--scrim);
    }
    soma-nav {
      position: fixed;
      inset: 0 auto 0 0;
      z-index: 20;
      visibility: hidden;
      transform: translateX(-102%);
      transition:
        transform 0.18s ease-out,
        visibility 0.18s;
      box-shadow: var(--shadow);
    }
    soma-nav.open {
      visibility: visible;
      transform: none;
    }
    main {
      padding-top: var(--s4);
    }
  }
  @media (prefers-reduced-motion: reduce) {
    soma-nav {
      transition: none;
    }
    .waiting {
      animation: none;
    }
  }
`;
