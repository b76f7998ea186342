import type { Coordinate } from "ol/coordinate";
import Feature from "ol/Feature";
import { Point as Spot } from "ol/geom";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";
import { Circle, Stroke, Style } from "ol/style";
import { type TemplateResult, html, nothing } from "lit-html";

import type { Collection } from "../daemon/collection";
import type { Daemon } from "../daemon/daemon";
import { asProblem, isAbort, type Problem } from "../daemon/problem";
import { degrees, stepName, value } from "../format";
import type { Palette } from "./palette";
import type { MapProjection } from "./projection";

type Value = number | null;

interface Document {
  values: Record<string, Value | Value[]> | null;
}

type Answer =
  | { kind: "asking" }
  | { kind: "outside" }
  | { kind: "failed"; problem: Problem }
  | { kind: "values"; values: [string, Value][] };

/** The values at one place, as a card over the map, and a mark where that is. */
export class Point {
  readonly layer = new VectorLayer({ source: new VectorSource(), zIndex: 5, className: "point" });
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #abort = new AbortController();
  #collection: Collection | null = null;
  #projection: MapProjection | null = null;
  #at: Coordinate | null = null;
  #lonlat: [number, number] = [0, 0];
  #datetime = "";
  #answer: Answer = { kind: "asking" };

  /** @param changed called when the card changes. */
  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Where it is, in the map's CRS; null when nothing is asked. */
  get at(): Coordinate | null {
    return this.#at;
  }

  /** Draw with a theme's colours. */
  paint({ box, halo }: Palette): void {
    const ring = (color: string, width: number) =>
      new Style({ image: new Circle({ radius: 6, stroke: new Stroke({ color, width }) }) });
    this.layer.setStyle([ring(halo, 5), ring(box, 2.5)]);
  }

  /** Ask for the values of bands at a place in the map's CRS. */
  async ask(
    collection: Collection,
    projection: MapProjection,
    at: Coordinate,
    lonlat: [number, number],
    bands: readonly string[],
    datetime: string,
  ): Promise<void> {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    [this.#collection, this.#projection, this.#at, this.#lonlat] = [collection, projection, at, lonlat];
    this.#datetime = datetime;
    this.#answer = { kind: "asking" };
    this.#mark();
    const where = { x: at[0], y: at[1], crs: projection.crs };
    const query = { ...where, bands: bands.join(","), datetime };
    try {
      const path = `collections/${collection.id}/point`;
      const document = await this.#daemon.json<Document>(path, query, { signal: abort.signal });
      this.#answer = document?.values ? { kind: "values", values: flat(document.values) } : { kind: "outside" };
    } catch (error) {
      if (isAbort(error)) {
        return;
      }
      this.#answer = { kind: "failed", problem: asProblem(error) };
    }
    this.#changed();
  }

  close(): void {
    this.#abort.abort();
    this.#at = null;
    this.#mark();
  }

  #mark(): void {
    this.layer.getSource()?.clear();
    if (this.#at) {
      this.layer.getSource()?.addFeature(new Feature(new Spot(this.#at)));
    }
    this.#changed();
  }

  template(): TemplateResult | typeof nothing {
    if (!this.#at || !this.#projection) {
      return nothing;
    }
    const digits = this.#projection.metres ? 1 : 5;
    const own = this.#at.map((part) => part.toFixed(digits)).join(", ");
    return html`<section class="card" aria-label="Values at a point">
      <button class="icon close" aria-label="Close the values" @click=${() => this.close()}>×</button>
      <div role="status">${this.#content()}</div>
      ${this.#datetime ? html`<p class="where">Time step ${stepName(this.#datetime)}</p>` : nothing}
      <p class="where">${degrees(...this.#lonlat)}</p>
      ${this.#projection.metres ? html`<p class="where">${this.#projection.code} <span>${own}</span></p>` : nothing}
    </section>`;
  }

  #content(): TemplateResult {
    const answer = this.#answer;
    switch (answer.kind) {
      case "asking":
        return html`<p>Asking… An absent chunk is fetched first.</p>`;
      case "outside":
        return html`<p>Outside the collection.</p>`;
      case "failed":
        return html`<p class="problem">${answer.problem.text}</p>`;
      case "values":
        return html`<dl>
          ${answer.values.map(([band, found]) => html`<div>${this.#row(band, found)}</div>`)}
        </dl>`;
    }
  }

  #row(name: string, found: Value): TemplateResult {
    const band = this.#collection?.bands.find((one) => one.name === name);
    const unit = band?.unit ? ` ${band.unit}` : "";
    return html`<dt title=${band?.description ?? name}>${name}</dt>
      <dd>${found === null ? "no data" : `${value(found)}${unit}`}</dd>`;
  }
}

/** One value a band: of several steps, the last. */
function flat(values: Record<string, Value | Value[]>): [string, Value][] {
  return Object.entries(values).map(([band, found]) => [
    band,
    Array.isArray(found) ? (found.at(-1) ?? null) : found,
  ]);
}
