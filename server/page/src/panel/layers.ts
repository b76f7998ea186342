import { type TemplateResult, html, nothing } from "lit-html";
import { guard } from "lit-html/directives/guard.js";
import { ref } from "lit-html/directives/ref.js";

import type { Collection, Style } from "../daemon/collection";
import { count } from "../format";
import { drawKey, STATES, type State } from "../map/chunkStyle";
import type { Inventory } from "../map/inventory";
import type { Palette } from "../map/palette";
import { type MapProjection, projectionsFor } from "../map/projection";
import type { View } from "../view";
import { choice, stepChoice } from "./choices";
import type { Legend } from "./legend";
import { range } from "./valueRange";

interface Shown {
  collection: Collection;
  projection: MapProjection;
  style: Style;
  view: View;
  /** Level that the tiles are drawn from. */
  drawn: number;
  legend: Legend;
  inventory: Inventory;
  colours: Palette;
}

/** Choices about the picture, its legend, and the inventory with its key. */
export function layers(shown: Shown, go: (change: Partial<View>) => void): TemplateResult {
  const { collection, projection, style, view, legend } = shown;
  const styles = collection.styles.map(({ name, title }) => [name, title] as const);
  const projections = projectionsFor(collection.crs).map(({ tms, title }) => [tms, title] as const);
  return html`
    ${styles.length > 1 ? choice("Style", styles, view.style, (name) => go({ style: name, rescale: "" })) : nothing}
    ${legend.template()} ${style.relief ? nothing : range(style, view.rescale, (rescale) => go({ rescale }))}
    ${collection.steps.count
      ? stepChoice(collection.steps, view.datetime, (datetime) => go({ datetime }))
      : nothing}
    ${choice("Map projection", projections, projection.tms, (tms) => go({ tms, x: NaN, y: NaN, z: NaN }))}
    ${inventoryControls(shown, go)}
  `;
}

/** The inventory: on or off, which level, and what its squares mean. */
function inventoryControls({ collection, view, drawn, inventory, colours }: Shown, go: (change: Partial<View>) => void): TemplateResult {
  const levels = [
    ["", `As drawn (level ${drawn})`] as const,
    ...Array.from({ length: collection.levels }, (_, level) => [String(level), `Level ${level}`] as const),
  ];
  const toggle = (event: Event) => go({ inventory: (event.target as HTMLInputElement).checked });
  return html`
    <label class="check">
      <input type="checkbox" .checked=${view.inventory} @change=${toggle} />
      Show what is kept here (inventory)
    </label>
    ${view.inventory
      ? html`${key(inventory.counts(), colours)}
          <p class="hint">
            ${inventory.square > 1
              ? `One square is ${inventory.square} × ${inventory.square} chunks.`
              : "One square is one chunk."}
            Where none is drawn, nothing was asked for yet.
          </p>
          ${collection.levels > 1 ? choice("Level of the inventory", levels, view.level, (level) => go({ level })) : nothing}
          ${inventory.problem ? html`<p class="problem">${inventory.problem.text}</p>` : nothing}`
      : nothing}
  `;
}

function key(counts: Record<State, number>, colours: Palette): TemplateResult {
  return html`<ul class="key">
    ${STATES.map(({ state, title, meaning }) => {
      const draw = (canvas?: Element) => canvas && drawKey(canvas as HTMLCanvasElement, state, colours);
      return html`<li>
        ${guard([colours], () => html`<canvas width="36" height="28" ${ref(draw)} aria-hidden="true"></canvas>`)}
        <span><strong>${title}</strong> ${meaning}</span>
        <span class="number" data-figure=${`squares ${state}`}>${count(counts[state])}</span>
      </li>`;
    })}
  </ul>`;
}
