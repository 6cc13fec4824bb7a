// The shapes of the API, as its OpenAPI document has them.

export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

export interface TenantName {
  id: string;
  slug: string;
  name: string;
}

export interface Me {
  user_id: string;
  email: string;
  name: string;
  tenant_id: string;
  tenant: TenantName;
  tenants: TenantName[];
  roles: string[];
  scopes: string[];
  permissions: string[];
  credential: "api_key" | "session";
  impersonator: { user_id: string; email: string } | null;
  totp: boolean;
  /** The tenant asks for a second factor, and there is none: nothing else is let through. */
  totp_required?: boolean;
}

export interface SignInMethods {
  password: boolean;
  oidc: { name: string } | null;
  mail: boolean;
}

export interface Link {
  purpose: "setup" | "invitation" | "reset";
  email: string;
  tenant: string;
  expires_at: string;
  /** An invitation of somebody who has a password, and takes it with that one. */
  has_password?: boolean;
}

export type RunState = "queued" | "running" | "waiting" | "cancelling" | "completed" | "failed" | "cancelled";

export interface Conversation {
  id: string;
  agent_id: string;
  user_id: string;
  title: string | null;
  created_at: string;
  updated_at?: string;
  archived?: boolean;
  last_run_state?: RunState | null;
}

export interface SearchHit {
  conversation_id: string;
  title: string | null;
  message_id: string;
  snippet: string;
  created_at: string;
}

export interface ToolRequest {
  id: string;
  name: string;
  arguments: string;
}

export interface Message {
  id: string;
  run_id: string;
  role: "system" | "user" | "assistant" | "tool";
  content: string;
  tool_calls?: ToolRequest[];
  tool_call_id?: string;
  created_at: string;
}

export interface Usage {
  input_tokens: number;
  output_tokens: number;
}

export interface Run {
  id: string;
  conversation_id: string;
  message_id: string;
  parent_run_id?: string | null;
  state: RunState;
  error?: { code: string; message: string };
  usage: Usage;
  cost_micros: number;
  context_cut?: boolean;
  created_at: string;
  started_at?: string | null;
  finished_at?: string | null;
}

export interface Accepted {
  message_id: string;
  run_id: string;
}

/** One event of a run. `sequence` is its id in the stream. */
export interface RunFrame {
  sequence: number;
  type: string;
  id: string;
  timestamp: string;
  payload: Record<string, unknown>;
}

export type Effect = "allow" | "deny" | "ask";

export interface Step {
  ordinal: number;
  name: string;
  effect: string;
  state: string;
  attempt: number;
  started_at: string | null;
  ended_at: string | null;
  input_tokens?: number | null;
  output_tokens?: number | null;
  cost_micros?: number | null;
  tool?: string | null;
  status?: string | null;
  decision?: { effect: Effect; reason: string; revision?: string; policy_revision?: string } | null;
}

export interface Limits {
  steps_max: number;
  tokens_max: number;
  output_tokens_max: number;
  cost_micros_max: number | null;
  wall_clock_s: number;
}

export interface Agent {
  id: string;
  slug: string;
  name: string;
  prompt: string;
  model?: string | null;
  tools: string[];
  tools_ask?: string[];
  limits: Limits;
  version?: number;
  archived?: boolean;
  created_at: string;
  updated_at: string;
}

export interface AgentVersion {
  version: number;
  author_id: string | null;
  created_at: string;
  name: string;
  prompt: string;
  tools: string[];
  tools_ask: string[];
  limits: Limits;
  model: string | null;
}

export interface Tool {
  name: string;
  description: string;
  parameters: unknown;
  effect: string;
  unavailable?: string;
}

export interface Model {
  name: string;
  context_tokens: number;
  tools: boolean;
  input_price_micros: number;
  output_price_micros: number;
}

export interface Approval {
  id: string;
  run_id: string;
  conversation_id: string;
  agent_id: string;
  call_id: string;
  tool: string;
  arguments: unknown;
  arguments_hash: string;
  reason: string;
  state: "pending" | "approved" | "rejected" | "expired" | "cancelled";
  requested_at: string;
  expires_at: string;
  requested_by: string;
  decided_by?: string | null;
  decided_at?: string | null;
  decision_reason?: string | null;
}

export interface WorkspaceFile {
  name: string;
  path: string;
  kind: string;
  size: number;
  modified_at: string;
}

export interface User {
  id: string;
  email: string;
  name: string;
  kind: "person" | "service";
  roles: string[];
  created_at: string;
  last_seen_at: string | null;
  locked: boolean;
  totp: boolean;
}

export interface Invitation {
  id: string;
  email: string;
  roles: string[];
  created_at: string;
  expires_at: string;
  link?: string;
}

export interface Session {
  id: string;
  created_at: string;
  last_used_at: string | null;
  expires_at: string;
  user_agent: string | null;
  address: string | null;
  current: boolean;
}

export interface ApiKey {
  id: string;
  user_id: string;
  name: string;
  prefix: string;
  scopes: string[];
  created_at: string;
  expires_at: string | null;
  last_used_at: string | null;
  revoked_at: string | null;
}

export interface AuditEntry {
  id: string;
  at: string;
  actor_id: string;
  action: string;
  resource_type: string;
  resource_id: string | null;
  effect: string;
  reason: string;
  policy_revision: string;
  details: unknown;
  impersonator_id?: string | null;
}

export type SettingLevel = "platform" | "tenant" | "agent" | "user";

export interface Setting {
  key: string;
  value: unknown;
  from: SettingLevel | "default";
  /** What is set at each level, whether it counts or not. */
  set: { level: SettingLevel; value: unknown }[];
  kind: string;
  choices?: string[];
  description: string;
  allowed_at: SettingLevel[];
}

export interface UsageRow {
  key: string;
  label: string;
  runs: number;
  input_tokens: number;
  output_tokens: number;
  cost_micros: number;
}
