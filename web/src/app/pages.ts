// Every page: its address, its place in the navigation, the right it needs, and the code that is loaded for it.
import { html, type TemplateResult } from "lit";
import type { IconName } from "../ui/icon";
import { match, type Parameters } from "./router";

export interface PageEntry {
  pattern: string;
  title: string;
  load: () => Promise<unknown>;
  draw: (parameters: Parameters) => TemplateResult;
  /** Fills the width and scrolls inside: the chat. */
  full?: boolean;
}

export interface NavEntry {
  path: string;
  label: string;
  icon: IconName;
  /** Any of these rights shows it. None: everybody sees it. */
  needs: string[];
  key: string;
}

export const WORK: NavEntry[] = [
  { path: "/chat", label: "Chat", icon: "chat", needs: ["conversation:read"], key: "c" },
  { path: "/approvals", label: "Approvals", icon: "stamp", needs: ["tool:approve"], key: "p" },
  { path: "/agents", label: "Agents", icon: "agent", needs: ["agent:read"], key: "a" },
];

export const GOVERN: NavEntry[] = [
  { path: "/people", label: "People", icon: "people", needs: ["user:read"], key: "u" },
  { path: "/roles", label: "Roles & grants", icon: "roles", needs: ["user:read"], key: "r" },
  { path: "/keys", label: "API keys", icon: "key", needs: ["apikey:read"], key: "k" },
  { path: "/audit", label: "Audit", icon: "audit", needs: ["audit:read"], key: "l" },
  { path: "/usage", label: "Usage", icon: "usage", needs: ["billing:view_usage"], key: "s" },
  { path: "/settings", label: "Settings", icon: "settings", needs: ["tenant:read"], key: "t" },
];

export const PAGES: PageEntry[] = [
  {
    pattern: "/chat",
    title: "Chat",
    load: () => import("../chat/page"),
    draw: () => html`<soma-chat></soma-chat>`,
    full: true,
  },
  {
    pattern: "/chat/:id",
    title: "Chat",
    load: () => import("../chat/page"),
    draw: ({ id }) => html`<soma-chat .conversation=${id}></soma-chat>`,
    full: true,
  },
  {
    pattern: "/approvals",
    title: "Approvals",
    load: () => import("../pages/approvals"),
    draw: () => html`<soma-approvals></soma-approvals>`,
  },
  {
    pattern: "/runs/:id",
    title: "Run",
    load: () => import("../pages/run"),
    draw: ({ id }) => html`<soma-run .run=${id}></soma-run>`,
  },
  {
    pattern: "/agents",
    title: "Agents",
    load: () => import("../pages/agents"),
    draw: () => html`<soma-agents></soma-agents>`,
  },
  {
    pattern: "/agents/:id",
    title: "Agent",
    load: () => import("../pages/agent"),
    draw: ({ id }) => html`<soma-agent .agent=${id}></soma-agent>`,
  },
  {
    pattern: "/people",
    title: "People",
    load: () => import("../pages/people"),
    draw: () => html`<soma-people></soma-people>`,
  },
  {
    pattern: "/people/:id",
    title: "Person",
    load: () => import("../pages/person"),
    draw: ({ id }) => html`<soma-person .user=${id}></soma-person>`,
  },
  {
    pattern: "/roles",
    title: "Roles & grants",
    load: () => import("../pages/roles"),
    draw: () => html`<soma-roles></soma-roles>`,
  },
  {
    pattern: "/keys",
    title: "API keys",
    load: () => import("../pages/keys"),
    draw: () => html`<soma-keys></soma-keys>`,
  },
  {
    pattern: "/audit",
    title: "Audit",
    load: () => import("../pages/audit"),
    draw: () => html`<soma-audit></soma-audit>`,
  },
  {
    pattern: "/usage",
    title: "Usage",
    load: () => import("../pages/usage"),
    draw: () => html`<soma-usage></soma-usage>`,
  },
  {
    pattern: "/settings",
    title: "Settings",
    load: () => import("../pages/settings"),
    draw: () => html`<soma-settings></soma-settings>`,
  },
  {
    pattern: "/profile",
    title: "Profile",
    load: () => import("../pages/profile"),
    draw: () => html`<soma-profile></soma-profile>`,
  },
];

export function findPage(path: string): { page: PageEntry; parameters: Parameters } | undefined {
  for (const page of PAGES) {
    const parameters = match(page.pattern, path);
    if (parameters) return { page, parameters };
  }
  return undefined;
}
