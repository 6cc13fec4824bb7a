// The look of the conversation list.
import { css } from "lit";

export const listStyles = css`
  section {
    height: 100%;
    display: flex;
    flex-direction: column;
    min-height: 0;
  }
  header {
    display: flex;
    align-items: center;
    justify-content: space-between;
    min-height: 52px;
    padding: 0 var(--s3) 0 var(--s4);
  }
  h1 {
    font-size: var(--text-l);
  }
  .search {
    position: relative;
    margin: 0 var(--s3) var(--s2);
  }
  .search svg {
    position: absolute;
    left: 9px;
    top: 50%;
    translate: 0 -50%;
    color: var(--ink-3);
    pointer-events: none;
  }
  .search input {
    padding-left: 30px;
    font-size: var(--text-s);
  }
  .scroll {
    flex: 1;
    overflow-y: auto;
    padding: 0 var(--s2) var(--s2);
  }
  ul {
    list-style: none;
    display: grid;
    gap: 1px;
  }
  li {
    position: relative;
    border-radius: var(--radius);
  }
  li:hover,
  li:focus-within {
    background: var(--hover);
  }
  li.selected {
    background: var(--accent-soft);
  }
  li a {
    display: grid;
    gap: 1px;
    padding: 7px 34px 7px 8px;
    color: inherit;
    text-decoration: none;
    border-radius: inherit;
  }
  .title {
    overflow: hidden;
    text-overflow: ellipsis;
    white-space: nowrap;
    font-weight: 470;
  }
  .selected .title {
    font-weight: 560;
    color: var(--accent-ink);
  }
  .when {
    display: flex;
    align-items: center;
    gap: 6px;
    font-size: var(--text-xs);
    color: var(--ink-3);
  }
  .selected .when {
    color: var(--ink-2);
  }
  .snippet {
    display: -webkit-box;
    -webkit-line-clamp: 2;
    -webkit-box-orient: vertical;
    overflow: hidden;
    font-size: var(--text-s);
    color: var(--ink-2);
  }
  .working {
    width: 7px;
    height: 7px;
    border-radius: 50%;
    background: var(--accent);
    animation: pulse 1.4s ease-in-out infinite;
  }
  @keyframes pulse {
    50% {
      opacity: 0.3;
    }
  }
  li soma-menu {
    position: absolute;
    right: 4px;
    top: 8px;
    opacity: 0;
  }
  li:hover soma-menu,
  li:focus-within soma-menu,
  li.selected soma-menu {
    opacity: 1;
  }
  @media (hover: none) {
    li soma-menu {
      opacity: 1;
    }
  }
  .rename {
    margin: 6px 4px;
    width: calc(100% - 8px) !important;
  }
  footer {
    padding: 4px var(--s2);
    border-top: 1px solid var(--line);
  }
`;
