// The interface's icons: strokes on a grid of 20, drawn here so that nothing is fetched.
import { svg, type TemplateResult, html } from "lit";

const PATHS = {
  chat: "M3.5 5.5a2 2 0 0 1 2-2h9a2 2 0 0 1 2 2v6a2 2 0 0 1-2 2H9l-4 3v-3a1.7 1.7 0 0 1-1.5-2z",
  check: "m4.5 10.5 3.5 3.5 7.5-8",
  stamp: "M7.5 3.5h5v4.2l1.6 2.3h1.4a1 1 0 0 1 1 1v2h-13v-2a1 1 0 0 1 1-1h1.4l1.6-2.3zM4 16.5h12",
  agent: "M10 6.2a3.8 3.8 0 1 1 0 7.6 3.8 3.8 0 0 1 0-7.6zM10 2.2v4M10 13.8v4M2.8 6.2l3.7 2M13.5 11.8l3.7 2M17.2 6.2l-3.7 2M6.5 11.8l-3.7 2",
  people: "M7.5 9.5a2.7 2.7 0 1 0 0-5.4 2.7 2.7 0 0 0 0 5.4zM2.5 16.2c.3-2.9 2.3-4.4 5-4.4s4.7 1.5 5 4.4M13 4.5a2.5 2.5 0 0 1 0 4.8M14.5 12c1.8.6 2.8 2 3 4.2",
  roles: "M10 2.5 4 4.8v4.4c0 3.8 2.5 6.7 6 8.3 3.5-1.6 6-4.5 6-8.3V4.8zM7.3 9.9l2 2 3.5-3.8",
  key: "M12.5 11.5a4 4 0 1 0-3.7-2.4L3 15v2.5h2.8v-2h2v-2h1.7l1-1c.6.2 1.3.3 2 .0zM13.7 6.3h.01",
  audit: "M5 2.5h7l3.5 3.5v11.5H5zM12 2.5V6h3.5M7.5 10h5.5M7.5 13h5.5",
  usage: "M3.5 16.5h13M5.5 16.5v-5M10 16.5v-11M14.5 16.5v-8",
  settings: "M3 6h8M15 6h2M3 14h2M9 14h8M13 4v4M7 12v4",
  user: "M10 10a3.2 3.2 0 1 0 0-6.4A3.2 3.2 0 0 0 10 10zM4 17c.4-3.2 2.7-4.8 6-4.8s5.6 1.6 6 4.8",
  plus: "M10 4v12M4 10h12",
  close: "m5 5 10 10M15 5 5 15",
  menu: "M3 5.5h14M3 10h14M3 14.5h14",
  more: "M4.2 10a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0zM9.2 10a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0zM14.2 10a.8.8 0 1 0 1.6 0 .8.8 0 1 0-1.6 0z",
  search: "M8.8 14.1a5.3 5.3 0 1 0 0-10.6 5.3 5.3 0 0 0 0 10.6zM12.7 12.7 17 17",
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M5.5 5.5h9v9h-9z",
  edit: "m12.5 4.5 3 3L7 16l-3.8.8L4 13z",
  copy: "M7 7h9v9.5H7zM4 13V3.5h9",
  again: "M16 10a6 6 0 1 1-1.8-4.3M16.5 3v3.5H13",
  left: "M12.5 4.5 7 10l5.5 5.5",
  right: "M7.5 4.5 13 10l-5.5 5.5",
  down: "m4.5 7.5 5.5 5.5 5.5-5.5",
  archive: "M3 4h14v3.5H3zM4.5 7.5v9h11v-9M8 10.5h4",
  trash: "M3.5 5.5h13M8 5.5v-2h4v2M5.5 5.5l.8 11.5h7.4l.8-11.5",
  restore: "M4 4v4.5h4.5M4.5 8.5a6 6 0 1 1-.2 3.5",
  folder: "M2.5 5.5a1 1 0 0 1 1-1H8l1.8 2h6.7a1 1 0 0 1 1 1v7.5a1 1 0 0 1-1 1h-13a1 1 0 0 1-1-1z",
  file: "M5 2.5h6.5L15 6v11.5H5zM11.5 2.5V6H15",
  download: "M10 3.5v9M6 9l4 4 4-4M3.5 16.5h13",
  upload: "M10 13V4M6 7.5l4-4 4 4M3.5 16.5h13",
  tool: "M12.7 3.3a4 4 0 0 0-4.9 5.2L3 13.3 5.2 16.5l1.5.5 5-5a4 4 0 0 0 5-5L14 9.5l-2.8-.7L10.5 6z",
  timeline: "M5 4v12M5 6h6M5 10h10M5 14h4",
  sun: "M10 13.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM10 2v2M10 16v2M2 10h2M16 10h2M4.3 4.3l1.4 1.4M14.3 14.3l1.4 1.4M15.7 4.3l-1.4 1.4M5.7 14.3l-1.4 1.4",
  moon: "M16 11.8A6.5 6.5 0 0 1 8.2 4 6.5 6.5 0 1 0 16 11.8z",
  auto: "M10 3.5a6.5 6.5 0 1 0 0 13zM10 3.5a6.5 6.5 0 0 1 0 13",
  keyboard: "M2.5 5.5h15v9h-15zM5.5 8.5h.01M8.5 8.5h.01M11.5 8.5h.01M14.5 8.5h.01M6 11.7h8",
  leave: "M8 3.5H4v13h4M8.5 10h8.5M13.5 6.5 17 10l-3.5 3.5",
  warn: "M10 3 2.5 16.5h15zM10 8v4M10 14.2h.01",
  wait: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM10 6v4.2l2.7 1.6",
  deny: "M10 17a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM5.2 5.2l9.6 9.6",
  link: "M8.5 11.5a3 3 0 0 0 4.3 0l3-3a3 3 0 0 0-4.3-4.3l-1 1M11.5 8.5a3 3 0 0 0-4.3 0l-3 3a3 3 0 0 0 4.3 4.3l1-1",
} as const;

export type IconName = keyof typeof PATHS;

export function icon(name: IconName, size = 16): TemplateResult {
  return html`<svg
    width=${size}
    height=${size}
    viewBox="0 0 20 20"
    fill="none"
    stroke="currentColor"
    stroke-width="1.5"
    stroke-linecap="round"
    stroke-linejoin="round"
    aria-hidden="true"
    focusable="false"
  >
    ${svg`<path d=${PATHS[name]}></path>`}
  </svg>`;
}

/** The mark: a cell body with its dendrites, which is what a soma is. */
export function mark(size = 22): TemplateResult {
  return html`<svg width=${size} height=${size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
    ${svg`<g fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round"><circle cx="16" cy="16" r="6.4"></circle><path d="M10.4 12.4 5 8.7M20 10.9l3-5.4M22.4 17.2l5.6 1.2M13 21.8 10.2 27"></path></g><circle cx="17.4" cy="15" r="2.4" fill="currentColor"></circle>`}
  </svg>`;
}
