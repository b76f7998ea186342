import type { Extent } from "ol/extent";
import { intersects } from "ol/extent";
import TileLayer from "ol/layer/Tile";
import ImageTileSource from "ol/source/ImageTile";
import type { TileSourceEvent } from "ol/source/Tile";
import TileState from "ol/TileState";

import type { Daemon } from "./daemon";
import type { Picture } from "./picture";
import { olProjection } from "./projection";
import { type Problem, asProblem, isAbort, unreachable } from "./problem";

const NOT_SHOWN = "Icehouse-Chunks-Not-Shown";
/** Milliseconds between two looks at tiles that were not whole. */
const PATIENCE = 1500;

/** A tile under way, or one that came: what became of it. */
interface Fate {
  extent: Extent;
  z: number;
  abort?: AbortController;
  problem?: Problem;
  /** Chunks that it does not show, as they are not cached and the scale is too small to fetch them. */
  notShown: number;
}

class PictureSource extends ImageTileSource {
  #revision = 0;

  /** Ask for all tiles again; those that are there stay until then. */
  reload(): void {
    this.setKey(String(++this.#revision));
  }
}

/** The layer of a collection's tiles, and how its loading goes. */
export class Tiles {
  readonly layer = new TileLayer<PictureSource>({ className: "tiles", zIndex: 1 });
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #fates = new Map<string, Fate>();
  #looking = 0;

  /** @param changed called whenever a tile begins, comes or fails. */
  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Show another picture; one that can't be drawn leaves the map empty. */
  show(picture: Picture): void {
    this.#end(() => true);
    this.#fates.clear();
    if (!picture.drawable) {
      this.layer.setSource(null);
      return;
    }
    const source = new PictureSource({
      loader: (z, x, y) => this.#load(picture, z, x, y),
      projection: olProjection(picture.projection),
      tileGrid: picture.grid,
      wrapX: !picture.projection.tms.startsWith("EPSG"),
      transition: 150,
    });
    // A tile that was let go of is asked for again when it comes into view.
    source.on("tileloaderror", ({ tile }: TileSourceEvent) => {
      const fate = this.#fates.get(tile.tileCoord.join("/"));
      if (fate && !fate.problem) {
        queueMicrotask(() => tile.setState(TileState.IDLE));
      }
    });
    this.layer.setSource(source);
  }

  /** Let go of tiles that are out of sight: the daemon then stops waiting for their chunks. */
  look(extent: Extent, z: number): void {
    this.#end((fate) => fate.z !== z || !intersects(fate.extent, extent));
  }

  /** Ask again for the tiles that failed. */
  retry(): void {
    this.#reload((fate) => fate.problem !== undefined);
  }

  /** Chunks have come: ask again for the tiles that did not show them, a moment later. */
  refill(): void {
    if (!this.#looking && [...this.#fates.values()].some(({ notShown }) => notShown > 0)) {
      this.#looking = window.setTimeout(() => {
        this.#looking = 0;
        this.#reload((fate) => fate.notShown > 0);
      }, PATIENCE);
    }
  }

  /** How it stands with the tiles that are in sight. */
  report(extent: Extent, z: number): { loading: number; notShown: number; problems: Problem[] } {
    const seen = [...this.#fates.values()].filter((fate) => fate.z === z && intersects(fate.extent, extent));
    return {
      loading: seen.filter(({ abort }) => abort).length,
      notShown: seen.reduce((sum, { notShown }) => sum + notShown, 0),
      problems: seen.flatMap(({ problem }) => problem ?? []),
    };
  }

  async #load(picture: Picture, z: number, x: number, y: number): Promise<ImageBitmap | HTMLCanvasElement> {
    const abort = new AbortController();
    const fate: Fate = { extent: picture.grid.getTileCoordExtent([z, x, y]), z, abort, notShown: 0 };
    this.#fates.set(`${z}/${x}/${y}`, fate);
    this.#changed();
    try {
      const { collection, projection, style, rescale, datetime } = picture;
      const path = `collections/${collection}/tiles/${projection.tms}/${z}/${y}/${x}`;
      const url = this.#daemon.url(path, { style, rescale, datetime, f: "png" });
      const response = await this.#daemon.fetch(url, { signal: abort.signal });
      fate.notShown = Number(response.headers.get(NOT_SHOWN) ?? 0);
      return response.status === 204 ? nothing() : await createImageBitmap(await response.blob().catch(unreachable));
    } catch (error) {
      if (!isAbort(error)) {
        fate.problem = asProblem(error);
      }
      throw error;
    } finally {
      delete fate.abort;
      this.#changed();
    }
  }

  #end(which: (fate: Fate) => boolean): void {
    [...this.#fates.values()].filter(which).forEach(({ abort }) => abort?.abort());
  }

  /** Make OpenLayers ask for everything in sight again; what has not changed is a 304 to the browser. */
  #reload(which: (fate: Fate) => boolean): void {
    if ([...this.#fates.values()].some(which)) {
      for (const [key, fate] of this.#fates) {
        if (!fate.abort) {
          this.#fates.delete(key);
        }
      }
      this.layer.getSource()?.reload();
    }
  }
}

function nothing(): HTMLCanvasElement {
  return Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
}
