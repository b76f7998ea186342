import { type TemplateResult, html, noChange } from "lit-html";
import { live } from "lit-html/directives/live.js";

import { type Steps, stepAt, written } from "../daemon/timeSteps";
import { count, stepName } from "../format";

/** Time steps that a list holds; of more, one is chosen by its date. */
const MOST_LISTED = 1000;

/** One of some things, by name. */
export function choice(
  name: string,
  options: readonly (readonly [string, string])[],
  chosen: string,
  choose: (value: string) => void,
): TemplateResult {
  return html`<label class="field"
    >${name}
    <select @change=${(event: Event) => choose((event.target as HTMLSelectElement).value)}>
      ${options.map(([value, title]) => html`<option value=${value} .selected=${live(value === chosen)}>${title}</option>`)}
    </select></label
  >`;
}

/** One of the time steps. */
export function stepChoice(steps: Steps, chosen: string, choose: (start: string) => void): TemplateResult {
  if (steps.count > MOST_LISTED) {
    return dateChoice(steps, chosen, choose);
  }
  const starts = Array.from({ length: steps.count }, (_, number) => steps.start(steps.count - 1 - number));
  return choice("Time step", starts.map((start) => [start, stepName(start)] as const), chosen, choose);
}

/** A field for a date, or a date and a time (UTC): what is typed chooses the step that holds it. */
function dateChoice(steps: Steps, chosen: string, choose: (start: string) => void): TemplateResult {
  const number = stepAt(steps, new Date(chosen));
  const [first, last] = [steps.start(0), steps.start(steps.count - 1)];
  const shown = (moment: string) => moment.slice(0, steps.daily ? 10 : -1);
  const take = ({ target }: Event) => {
    const { value, validity } = target as HTMLInputElement;
    // While its year is typed a date lies outside for a moment.
    if (value !== "" && validity.valid) {
      choose(steps.start(stepAt(steps, new Date(steps.daily ? value : `${value}Z`))));
    }
  };
  const leave = ({ target }: Event) => ((target as HTMLInputElement).value = shown(chosen));
  const typing = document.activeElement?.matches(".steps input");
  const go = (there: number) => () => choose(steps.start(there));
  return html`<div class="steps">
    <label class="field"
      >${steps.daily ? "Time step" : "Time step (UTC)"}
      <input
        type=${steps.daily ? "date" : "datetime-local"}
        step="any"
        required
        min=${shown(first)}
        max=${shown(written(new Date(Date.parse(steps.end) - 1000)))}
        .value=${typing ? noChange : live(shown(chosen))}
        @change=${take}
        @blur=${leave}
      />
    </label>
    <div class="row">
      <button ?disabled=${number === 0} @click=${go(number - 1)}>Earlier step</button>
      <button ?disabled=${number === steps.count - 1} @click=${go(number + 1)}>Later step</button>
    </div>
    <p class="hint" role="status">
      Step ${count(number + 1)} of ${count(steps.count)}, which start from ${stepName(first)} to ${stepName(last)}.
    </p>
  </div>`;
}
