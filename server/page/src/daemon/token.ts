const KEY = "icehouse-token";

/** The bearer token that the user has typed; it stays with this tab. */
export class Token {
  #wanted = false;
  #refused = false;
  readonly #changed: () => void;

  /** @param changed called when it is asked for, given or taken away. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get value(): string {
    return sessionStorage.getItem(KEY) ?? "";
  }

  /** True while the daemon refuses what we send. */
  get wanted(): boolean {
    return this.#wanted;
  }

  /** True where a token was sent, and is not the daemon's. */
  get refused(): boolean {
    return this.#refused;
  }

  give(value: string): void {
    sessionStorage.setItem(KEY, value.trim());
    this.#wanted = false;
    this.#changed();
  }

  /** The daemon refused a request. */
  ask(): void {
    this.#refused = this.value !== "";
    this.#wanted = true;
    this.#changed();
  }

  /** The user does not want to type one now. */
  putOff(): void {
    this.#wanted = false;
    this.#changed();
  }
}
