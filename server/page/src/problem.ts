/** An error in words: a problem document (RFC 9457) of the daemon, or what kept us from reaching it. */
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
  get words(): string {
    return [this.detail, this.hint].filter(Boolean).map(sentence).join(" ");
  }
}

/** A text with a capital and a full stop. */
export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");
}

/** Read the problem of an answer whose status is an error. */
export async function problemOf(response: Response): Promise<Problem> {
  const said: unknown = await response.json().catch(() => null);
  const members = typeof said === "object" && said !== null ? (said as Record<string, unknown>) : {};
  const text = (name: string, otherwise: string) =>
    typeof members[name] === "string" ? members[name] : otherwise;
  const detail = text("detail", `The daemon answered ${response.status} ${response.statusText}`.trim());
  return new Problem(response.status, text("kind", "unknown"), detail, text("hint", ""));
}

/** Whatever was thrown, as a problem. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) {
    return error;
  }
  return new Problem(0, "unreachable", "The daemon does not answer", "Is it still running?");
}

/** True where somebody of ours ended the request. */
export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
