import type DataTile from "ol/DataTile";
import type { Extent } from "ol/extent";
import { intersects, wrapAndSliceX } from "ol/extent";
import TileLayer from "ol/layer/Tile";
import type { Projection } from "ol/proj";
import ImageTileSource from "ol/source/ImageTile";
import type { TileSourceEvent } from "ol/source/Tile";
import TileState from "ol/TileState";

import type { Daemon } from "../daemon/daemon";
import { type Problem, asProblem, isAbort, unreachable } from "../daemon/problem";
import type { Picture } from "./picture";
import { olProjection } from "./projection";

const NOT_SHOWN = "Icehouse-Chunks-Not-Shown";
/** Milliseconds until incomplete tiles are requested again. */
const RETRY_DELAY = 1500;

/** A tile that is loading, or that failed or came incomplete. */
interface TileRequest {
  name: string;
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
  #requests: TileRequest[] = [];
  #projection: Projection | null = null;
  #looking = 0;

  /** @param changed called whenever a tile begins, comes or fails. */
  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Show another picture; one that can't be drawn leaves the map empty. */
  show(picture: Picture): void {
    this.#requests.forEach(({ abort }) => abort?.abort());
    this.#requests = [];
    this.#projection = olProjection(picture.projection);
    if (!picture.drawable) {
      this.layer.setSource(null);
      return;
    }
    const source = new PictureSource({
      loader: (z, x, y) => this.#load(picture, z, x, y),
      projection: this.#projection,
      tileGrid: picture.grid,
      wrapX: !picture.projection.tms.startsWith("EPSG"),
      transition: 150,
    });
    // A tile that was aborted is requested again when it comes into view.
    source.on("tileloaderror", ({ tile }: TileSourceEvent) => {
      if (isAbort((tile as DataTile).getError())) {
        queueMicrotask(() => tile.setState(TileState.IDLE));
      }
    });
    this.layer.setSource(source);
  }

  /** Abort tiles that are out of view: the daemon then stops waiting for their chunks. */
  look(extent: Extent, z: number): void {
    const seen = this.#seen(extent, z);
    this.#requests.filter((request) => !seen.includes(request)).forEach(({ abort }) => abort?.abort());
  }

  /** Ask again for the tiles that failed. */
  retry(): void {
    this.#reload((request) => request.problem !== undefined);
  }

  /** Chunks have come: ask again for the tiles that did not show them, a moment later. */
  refill(): void {
    if (!this.#looking && this.#requests.some(({ notShown }) => notShown > 0)) {
      this.#looking = window.setTimeout(() => {
        this.#looking = 0;
        this.#reload((request) => request.notShown > 0);
      }, RETRY_DELAY);
    }
  }

  /** How loading goes for the tiles in view. */
  report(extent: Extent, z: number): { loading: number; notShown: number; problems: Problem[] } {
    const seen = this.#seen(extent, z);
    return {
      loading: seen.filter(({ abort }) => abort).length,
      notShown: seen.reduce((sum, { notShown }) => sum + notShown, 0),
      problems: seen.flatMap(({ problem }) => problem ?? []),
    };
  }

  async #load(picture: Picture, z: number, x: number, y: number): Promise<ImageBitmap | HTMLCanvasElement> {
    const abort = new AbortController();
    const name = `${z}/${x}/${y}`;
    const request: TileRequest = { name, extent: picture.grid.getTileCoordExtent([z, x, y]), z, abort, notShown: 0 };
    // Where the world is seen twice two of one name may be under way.
    this.#requests = [...this.#requests.filter((one) => one.name !== name || one.abort), request];
    this.#changed();
    try {
      const { collection, projection, style, rescale, datetime } = picture;
      const path = `collections/${collection}/tiles/${projection.tms}/${z}/${y}/${x}`;
      const url = this.#daemon.url(path, { style, rescale, datetime, f: "png" });
      const response = await this.#daemon.fetch(url, { signal: abort.signal });
      request.notShown = Number(response.headers.get(NOT_SHOWN) ?? 0);
      return response.status === 204 ? nothing() : await createImageBitmap(await response.blob().catch(unreachable));
    } catch (error) {
      if (!isAbort(error)) {
        request.problem = asProblem(error);
      }
      throw error;
    } finally {
      delete request.abort;
      if (!request.problem && !request.notShown) {
        this.#requests = this.#requests.filter((one) => one !== request);
      }
      this.#changed();
    }
  }

  /** What is in sight: beyond 180 degrees the world begins anew. */
  #seen(extent: Extent, z: number): TileRequest[] {
    const parts = this.#projection ? wrapAndSliceX([...extent], this.#projection) : [];
    return this.#requests.filter((request) => request.z === z && parts.some((part) => intersects(request.extent, part)));
  }

  /** Make OpenLayers request all tiles in view again; for unchanged ones the browser gets a 304. */
  #reload(which: (request: TileRequest) => boolean): void {
    if (this.#requests.some(which)) {
      this.#requests = this.#requests.filter(({ abort }) => abort);
      this.layer.getSource()?.reload();
    }
  }
}

function nothing(): HTMLCanvasElement {
  return Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
}
