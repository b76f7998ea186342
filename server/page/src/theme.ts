const KEY = "icehouse-theme";

/** Light or dark: as the system has it, until the user chooses. */
export class Theme {
  readonly #system = matchMedia("(prefers-color-scheme: dark)");
  readonly #changed: () => void;

  constructor(changed: () => void) {
    this.#changed = changed;
    this.#system.addEventListener("change", () => this.#apply());
    this.#apply(false);
  }

  get dark(): boolean {
    const chosen = localStorage.getItem(KEY);
    return chosen === null ? this.#system.matches : chosen === "dark";
  }

  toggle(): void {
    const next = this.dark ? "light" : "dark";
    if ((next === "dark") === this.#system.matches) {
      localStorage.removeItem(KEY);
    } else {
      localStorage.setItem(KEY, next);
    }
    this.#apply();
  }

  #apply(notify = true): void {
    document.documentElement.dataset["theme"] = this.dark ? "dark" : "light";
    if (notify) {
      this.#changed();
    }
  }
}
