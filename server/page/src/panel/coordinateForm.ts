import { type TemplateResult, html } from "lit-html";

import type { Box } from "../daemon/collection";
import { requireAbove } from "./valueRange";

const EDGES = ["West", "South", "East", "North"] as const;
const EDGES_METRES = ["Left", "Bottom", "Right", "Top"] as const;

/**
 * Fields for the four edges of a box.
 *
 * @param crs of the coordinates: CRS84 (degrees), or one in metres.
 * @param box what the fields show; null: they are empty.
 * @param submit called with the box that was typed.
 */
export function coordinateForm(crs: string, box: Box | null, submit: (box: Box) => void): TemplateResult {
  const names = crs === "CRS84" ? EDGES : EDGES_METRES;
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    submit([...new FormData(event.target as HTMLFormElement).values()].map(Number) as Box);
  };
  return html`<details class="fields">
    <summary>${box ? "Coordinates of the box" : "Or type its coordinates"}</summary>
    <form @submit=${onSubmit}>
      <p class="hint">${crs === "CRS84" ? "Degrees of longitude and latitude. A box ends at 180." : `Metres in ${crs}.`}</p>
      <div class="edges">
        ${names.map(
          (name, index) => html`<label
            >${name}
            <input name=${name} required inputmode="decimal" autocomplete="off" pattern="-?[0-9]+([.][0-9]+)?"
              .value=${String(box?.[index] ?? "")}
          /></label>`,
        )}
      </div>
      <button @click=${(event: Event) => checkEdges(event, names)}>Plan this box</button>
    </form>
  </details>`;
}

function checkEdges(event: Event, [left, bottom, right, top]: typeof EDGES | typeof EDGES_METRES): void {
  const [one, two, three, four] = (event.target as HTMLButtonElement).form!.querySelectorAll("input");
  requireAbove(one!, three!, `${right} has to be above ${left.toLowerCase()}`);
  requireAbove(two!, four!, `${top} has to be above ${bottom.toLowerCase()}`);
}
