import { Problem, problemOf, unreachable } from "./problem";
import type { Token } from "./token";

export type Query = Record<string, string | number | undefined>;

const UNAUTHORIZED = 401;

/** Requests to the daemon that served this page. Every error is a Problem, except an abort by the caller. */
export class Daemon {
  readonly #token: Token;

  constructor(token: Token) {
    this.#token = token;
  }

  /** The whole address of a path, with the parameters that have a value. */
  url(path: string, query: Query = {}): string {
    const url = new URL(path, new URL(".", location.origin + location.pathname));
    for (const [name, value] of Object.entries(query)) {
      if (value !== undefined && value !== "") {
        url.searchParams.set(name, String(value));
      }
    }
    // Commas, colons and slashes need no escape in a query, and people read these lines.
    return url.href.replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%2F", "/");
  }

  /** Send a request; an answer with an error status is thrown as a Problem. */
  async fetch(url: string, init: RequestInit = {}): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.#token.value) {
      headers.set("Authorization", `Bearer ${this.#token.value}`);
    }
    const response = await fetch(url, { ...init, headers }).catch(unreachable);
    if (response.status >= 400) {
      if (response.status === UNAUTHORIZED) {
        this.#token.ask();
      }
      throw await problemOf(response);
    }
    return response;
  }

  /** Ask for a JSON document; null where there is no content. */
  async json<T>(path: string, query: Query = {}, init: RequestInit = {}): Promise<T | null> {
    const response = await this.fetch(this.url(path, query), init);
    return response.status === 204 ? null : ((await response.json().catch(unreachable)) as T);
  }

  /** Ask for a JSON document that is always there. */
  async document<T>(path: string, query: Query = {}, init: RequestInit = {}): Promise<T> {
    const found = await this.json<T>(path, query, init);
    if (found === null) {
      throw new Problem(204, "empty", "The daemon sent an empty answer");
    }
    return found;
  }
}
