// What the server says when something does not work (RFC 9457), and what happens when it says nothing at all.

export interface FieldError {
  field: string;
  message: string;
}

interface Body {
  title?: string;
  detail?: string;
  code?: string;
  errors?: FieldError[];
  policy_revision?: string;
}

export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    detail: string,
    readonly errors: FieldError[] = [],
    readonly requestId = "",
    readonly policyRevision = "",
    readonly retryAfterSeconds = 0,
  ) {
    super(detail);
    this.name = "Problem";
  }

  /** What is wrong with this field, if something is. */
  about(field: string): string | undefined {
    return this.errors.find((error) => error.field === field)?.message;
  }

  /** What a person can do about it beside what the server already says. */
  get advice(): string {
    if (this.code === "offline") return "Check the connection; nothing that you wrote is lost.";
    if (this.status === 403 && this.code === "denied") return "Ask an administrator of this tenant for the right.";
    if (this.status === 429 && this.retryAfterSeconds > 0) return `Try again in ${this.retryAfterSeconds} s.`;
    if (this.status >= 500) return "Try again; if it stays, give an administrator the request id.";
    return "";
  }
}

export async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => "");
  let body: Body = {};
  try {
    const parsed: unknown = JSON.parse(text);
    if (parsed && typeof parsed === "object") body = parsed as Body;
  } catch {
    // Something in front of the server answered, and not in JSON.
  }
  const detail = body.detail || body.title || `The server answered with status ${response.status}.`;
  return new Problem(
    response.status,
    body.code ?? `status_${response.status}`,
    detail,
    Array.isArray(body.errors) ? body.errors : [],
    response.headers.get("x-request-id") ?? "",
    body.policy_revision ?? "",
    Number(response.headers.get("retry-after") ?? 0) || 0,
  );
}

export function offline(): Problem {
  return new Problem(0, "offline", "The server can't be reached.");
}

/** Anything that was thrown, as a problem that can be shown. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new Problem(0, "page", `The page failed: ${text}. Reload it.`);
}
