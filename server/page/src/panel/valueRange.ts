import { type TemplateResult, html, nothing } from "lit-html";
import { keyed } from "lit-html/directives/keyed.js";

import type { Interval, Style } from "../daemon/collection";
import { intervalOf } from "../view";

/**
 * Fields for the values that are shown: open where the style has none.
 *
 * @param rescale what the user has chosen so far; empty: nothing.
 * @param choose called with what is chosen now; empty: as the style has it.
 */
export function range(style: Style, rescale: string, choose: (rescale: string) => void): TemplateResult {
  const shown = intervalOf(rescale) ?? common(style.rescale);
  const missing = style.rescale === null && rescale === "";
  const give = (event: SubmitEvent) => {
    event.preventDefault();
    const typed = new FormData(event.target as HTMLFormElement);
    choose(`${typed.get("low")},${typed.get("high")}`);
  };
  const reset = html`<button type="button" @click=${() => choose("")}>
    ${style.rescale ? "As the style has them" : "Forget them"}
  </button>`;
  // Another style's fields are fields of their own: what was typed for the one before is gone.
  return html`${keyed(
    `${style.name} ${style.bands.join()} ${rescale}`,
    html`<details class="range" ?open=${missing || rescale !== ""}>
      <summary>Values that are shown</summary>
      <form @submit=${give} aria-label="Values that are shown">
        ${hint(style, missing)}
        <div class="edges">
          ${field("low", "Lowest value", shown?.[0])} ${field("high", "Highest value", shown?.[1])}
        </div>
        <div class="row"><button @click=${check}>Show these values</button>${rescale ? reset : nothing}</div>
      </form>
    </details>`,
  )}`;
}

function field(name: string, title: string, value: number | undefined): TemplateResult {
  return html`<label
    >${title} <input name=${name} type="number" step="any" required autocomplete="off" .value=${String(value ?? "")}
  /></label>`;
}

function hint({ bands }: Style, missing: boolean): TemplateResult | typeof nothing {
  if (missing) {
    return html`<p class="hint">
      Nothing says which values of ${bands.join(", ")} to show. A click on the map shows the values.
    </p>`;
  }
  return bands.length > 1 ? html`<p class="hint">For all ${bands.length} bands.</p>` : nothing;
}

function check(event: Event): void {
  const [low, high] = (event.target as HTMLButtonElement).form!.querySelectorAll("input");
  requireAbove(low!, high!, "It has to be above the lowest value");
}

/** Ask for a number above that of another field, before a form is sent: the browser shows it next to the field. */
export function requireAbove(low: HTMLInputElement, high: HTMLInputElement, message: string): void {
  const turned = low.value !== "" && high.value !== "" && Number(low.value) >= Number(high.value);
  high.setCustomValidity(turned ? message : "");
}

/** The range that all bands have. */
function common(ranges: readonly Interval[] | null): Interval | null {
  const [first] = ranges ?? [];
  return first && ranges?.every(([low, high]) => low === first[0] && high === first[1]) ? first : null;
}
