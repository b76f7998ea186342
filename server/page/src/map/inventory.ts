import type { Extent } from "ol/extent";
import { getIntersection, isEmpty } from "ol/extent";
import type Feature from "ol/Feature";
import GeoJSON from "ol/format/GeoJSON";
import VectorLayer from "ol/layer/Vector";
import VectorSource from "ol/source/Vector";

import type { Collection } from "../daemon/collection";
import type { Daemon } from "../daemon/daemon";
import { listen, type Event } from "../daemon/events";
import { asProblem, type Problem } from "../daemon/problem";
import { chunkStyle, type State } from "./chunkStyle";
import type { Palette } from "./palette";
import type { MapProjection } from "./projection";

/** Which chunks of the inventory are shown, and where. */
export interface InventoryQuery {
  collection: Collection;
  projection: MapProjection;
  extent: Extent;
  bands: string;
  datetime: string;
  level: number;
  /** Cells of the grid to a pixel of the map, about. */
  cells: number;
  /** Width and height of the map in pixels. */
  size: [number, number];
}

const MOST_SQUARES = 2000;
const LARGEST_SQUARE = 1024;
const DEBOUNCE = 250;
/** Milliseconds between two pictures of chunks in flight. */
const PULSE = 100;

/** The layer that shows which chunks are present, void, in flight and failed, as it changes. */
export class Inventory {
  readonly layer = new VectorLayer({ source: new VectorSource(), zIndex: 3, className: "inventory" });
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  readonly #arrived: () => void;
  readonly #geojson = new GeoJSON();
  #abort = new AbortController();
  #timer = 0;
  #pulse = 0;
  #url = "";
  #phase = 0;
  problem: Problem | null = null;
  /** Side of a square, in chunks. */
  square = 1;

  /**
   * @param changed called when the layer changes.
   * @param arrived called when chunks were added or removed.
   */
  constructor(daemon: Daemon, changed: () => void, arrived: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
    this.#arrived = arrived;
  }

  /** Draw with a theme's colours. */
  paint(colours: Palette): void {
    this.layer.setStyle((feature, resolution) => chunkStyle(feature, resolution, colours, this.#phase));
  }

  /** Show what is there, a moment after the last call; null shows nothing. */
  look(query: InventoryQuery | null): void {
    window.clearTimeout(this.#timer);
    if (query === null) {
      this.#stop();
      this.layer.getSource()?.clear();
      return;
    }
    this.#timer = window.setTimeout(() => this.#listen(query, squareFor(query)), DEBOUNCE);
  }

  /** How many positions are in each state, of what is shown. */
  counts(): Record<State, number> {
    const counts: Record<State, number> = { present: 0, void: 0, "in flight": 0, failed: 0 };
    for (const feature of this.layer.getSource()?.getFeatures() ?? []) {
      counts[feature.get("state") as State] += 1;
    }
    return counts;
  }

  #stop(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#url = "";
  }

  #listen(query: InventoryQuery, square: number): void {
    const extent = getIntersection(query.extent, query.projection.extent);
    if (isEmpty(extent)) {
      this.look(null);
      return;
    }
    const url = this.#daemon.url(`collections/${query.collection.id}/inventory`, {
      bbox: extent.join(","),
      "bbox-crs": query.projection.crs,
      crs: query.projection.crs,
      level: query.level,
      properties: query.bands,
      datetime: query.datetime,
      cell: square,
    });
    if (url === this.#url) {
      return;
    }
    this.#stop();
    this.#url = url;
    this.square = square;
    const listener = {
      onEvent: (event: Event) => this.#take(event),
      onRefused: (error: unknown) => {
        const problem = asProblem(error);
        if (problem.status === 413 && square < LARGEST_SQUARE) {
          this.#listen(query, square * 2);
          return false;
        }
        this.#complain(problem);
        return problem.status === 0 || problem.status >= 500;
      },
    };
    void listen(this.#daemon, url, listener, this.#abort.signal);
  }

  #complain(problem: Problem): void {
    // Without a connection the page says so once, not here as well.
    this.problem = problem.kind === "unreachable" ? null : problem;
    this.layer.getSource()?.clear();
    this.#changed();
  }

  #take({ name, data }: Event): void {
    const source = this.layer.getSource();
    if (!source) {
      return;
    }
    this.problem = null;
    if (name === "inventory") {
      source.clear(true);
      source.addFeatures(this.#geojson.readFeatures(data));
      this.#arrived();
    } else if (name === "change") {
      const { features, gone } = JSON.parse(data) as { features: { id: string }[]; gone: string[] };
      [...gone, ...features.map(({ id }) => id)].forEach((id) => {
        const old = source.getFeatureById(id);
        if (old && !Array.isArray(old)) {
          source.removeFeature(old as Feature);
        }
      });
      source.addFeatures(this.#geojson.readFeatures({ type: "FeatureCollection", features }));
      this.#arrived();
    }
    this.#pulse ||= window.setInterval(() => this.#beat(), PULSE);
    this.#changed();
  }

  /** Move the stripes, as long as there are any. */
  #beat(): void {
    if (this.counts()["in flight"] === 0) {
      window.clearInterval(this.#pulse);
      this.#pulse = 0;
    } else if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.#phase = (this.#phase + 1) % 16;
      this.layer.changed();
    }
  }
}

/** Chunks to a square's side so that no more than about two thousand are drawn; a power of two. */
function squareFor({ collection, level, cells, size: [width, height] }: InventoryQuery): number {
  const pixels = (collection.chunk * 2 ** level) / cells;
  const positions = (width / pixels + 1) * (height / pixels + 1);
  const side = Math.ceil(Math.log2(Math.sqrt(Math.max(1, positions / MOST_SQUARES))));
  return Math.min(LARGEST_SQUARE, 2 ** Math.max(0, side));
}
