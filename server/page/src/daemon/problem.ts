import { counted } from "../format";

/** An error to show: a problem document (RFC 9457) of the daemon, an unreachable daemon, or an error of the page. */
export class Problem extends Error {
  readonly status: number;
  readonly kind: string;
  readonly detail: string;
  readonly hint: string;

  constructor(status: number, kind: string, detail: string, hint = "") {
    super(hint ? `${detail} (${hint})` : detail);
    this.status = status;
    this.kind = kind;
    this.detail = detail;
    this.hint = hint;
  }

  /** Detail and hint as sentences. */
  get text(): string {
    return [this.detail, this.hint].filter(Boolean).map(sentence).join(" ");
  }
}

/** A text with a capital and a full stop. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
}

/** Read the problem of an answer whose status is an error. */
export async function problemOf(response: Response): Promise<Problem> {
  const document: unknown = await response.json().catch(() => null);
  const members = typeof document === "object" && document !== null ? (document as Record<string, unknown>) : {};
  const text = (name: string, otherwise: string) =>
    typeof members[name] === "string" ? members[name] : otherwise;
  const detail = text("detail", `The daemon answered ${response.status} ${response.statusText}`.trim());
  const hint = text("remedy", text("hint", ""));
  return new Problem(response.status, text("kind", "unknown"), ofChunks(members) ?? detail, hint);
}

/** Summary of the chunks that failed: how many, and why the first. The detail names it, for programs. */
function ofChunks({ failed, chunks }: Record<string, unknown>): string | null {
  const [first] = Array.isArray(chunks) ? (chunks as { detail?: string }[]) : [];
  return first?.detail ? `${counted(Number(failed), "chunk")} could not be fetched: ${first.detail}` : null;
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, "page", String(error instanceof Error ? error.message : error));
}

/** Rethrow the error of a request, or of reading its answer; a network failure as a Problem. */
export function unreachable(error: unknown): never {
  throw error instanceof TypeError
    ? new Problem(0, "unreachable", "The daemon does not answer", "Is it still running?")
    : error;
}

/** True where the page itself ended the request. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
