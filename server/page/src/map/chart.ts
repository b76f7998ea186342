import { type Coordinate, wrapX } from "ol/coordinate";
import { ScaleLine } from "ol/control";
import { defaults as controls } from "ol/control/defaults";
import { createEmpty, type Extent, getWidth } from "ol/extent";
import { defaults as interactions } from "ol/interaction/defaults";
import type BaseLayer from "ol/layer/Base";
import OlMap from "ol/Map";
import { fromLonLat, getPointResolution, toLonLat, transformExtent } from "ol/proj";
import type TileGrid from "ol/tilegrid/TileGrid";
import OlView from "ol/View";

import type { Collection } from "../daemon/collection";
import { type MapProjection, olProjection } from "./projection";

/** Zooms beyond the tiles' own, in which pixels are drawn large. */
const BEYOND = 3;
/** Each further tile that waits holds one of the browser's six connections to the daemon; streams hold two. */
const TILES_AT_ONCE = 3;
const METRES_PER_DEGREE = 111_320;

/** Where the map is: centre in its CRS, zoom of its tile matrix set. */
export interface Place {
  x: number;
  y: number;
  z: number;
}

/** The map: one view, some layers, and what people do on it. */
export class Chart {
  readonly map: OlMap;
  #projection: MapProjection | null = null;
  #grid: TileGrid | null = null;
  /** How many pictures are still to come of which no tile was asked for yet. */
  #expected = 0;

  /**
   * @param target the element to draw in, which takes the keyboard's focus.
   * @param moved called when the map has come to rest somewhere else.
   * @param clicked called with a place in the map's CRS, between 180 degrees west and east.
   */
  constructor(
    target: HTMLElement,
    layers: BaseLayer[],
    moved: () => void,
    clicked: (at: Coordinate) => void,
  ) {
    this.map = new OlMap({
      target,
      layers,
      maxTilesLoading: TILES_AT_ONCE,
      controls: controls({ attribution: false, rotate: false, zoomOptions: { zoomInLabel: "+", zoomOutLabel: "−" } }).extend([
        new ScaleLine({ minWidth: 80 }),
      ]),
      interactions: interactions({ altShiftDragRotate: false, pinchRotate: false, doubleClickZoom: false }),
    });
    this.map.on("moveend", () => this.#projection && moved());
    this.map.on("loadstart", () => this.#setBusy(true));
    this.map.on("rendercomplete", () => this.#setBusy(false));
    const ask = (at: Coordinate) => clicked(wrapX([...at], this.map.getView().getProjection()));
    this.map.on("singleclick", ({ coordinate }) => ask(coordinate));
    target.addEventListener("keydown", ({ key }) => {
      const centre = this.map.getView().getCenter();
      if (key === "Enter" && centre && document.activeElement === target) {
        ask(centre);
      }
    });
  }

  /** Look through another projection, at a place or (where that is not whole) at an extent. */
  show(projection: MapProjection, grid: TileGrid, place: Place, otherwise: Extent, largest?: number): void {
    this.#projection = projection;
    this.#grid = grid;
    const resolutions = [...grid.getResolutions()];
    for (let more = 0; more < BEYOND; more++) {
      resolutions.push(resolutions.at(-1)! / 2);
    }
    const view = new OlView({
      projection: olProjection(projection),
      resolutions,
      constrainResolution: true,
      enableRotation: false,
      extent: projection.extent,
      constrainOnlyCenter: true,
      showFullExtent: true,
    });
    this.map.setView(view);
    this.go(place, otherwise, largest);
  }

  /** Look at a place or (where that is not whole) at an extent, in the projection that is there. */
  go(place: Place, otherwise: Extent, largest?: number): void {
    if (isWhole(place)) {
      this.map.getView().setCenter([place.x, place.y]);
      this.map.getView().setZoom(place.z);
    } else {
      this.fit(otherwise, largest);
    }
  }

  fit(extent: Extent, largest?: number): void {
    const view = this.map.getView();
    const world = view.getProjection();
    // The world goes on at its sides: cut off a little there it is larger than with a second one next to it.
    const nearest = world.canWrapX() && getWidth(extent) > 0.99 * getWidth(world.getExtent());
    const padding = [24, 24, 24, 24];
    view.fit(extent, { padding, nearest, ...(largest === undefined ? {} : { maxZoom: largest }) });
  }

  zoomTo(z: number): void {
    this.map.getView().animate({ zoom: z, duration: this.#reducedMotion ? 0 : 400 });
  }

  get projection(): MapProjection | null {
    return this.#projection;
  }

  get place(): Place {
    const view = this.map.getView();
    const [x, y] = view.getCenter() ?? [NaN, NaN];
    // A digit finer than a pixel is enough for a place to be shared.
    const digits = Math.max(0, Math.ceil(-Math.log10(view.getResolution() ?? 1)) + 1);
    return { x: round(x!, digits), y: round(y!, digits), z: round(view.getZoom() ?? NaN, 2) };
  }

  /** The place in another projection, at about the same scale. */
  placeIn(projection: MapProjection, grid: TileGrid): Place {
    const view = this.map.getView();
    const centre = view.getCenter() ?? [NaN, NaN];
    const [lon, lat] = this.toLonLat(centre);
    const [low, high] = projection.latitudes;
    const target = olProjection(projection);
    const [x, y] = fromLonLat([lon, Math.min(high, Math.max(low, lat))], target);
    const metres = getPointResolution(view.getProjection(), view.getResolution() ?? NaN, centre, "m");
    return { x: x!, y: y!, z: grid.getZForResolution(metres / getPointResolution(target, 1, [x!, y!], "m")) };
  }

  /** What can be seen, in the map's CRS; empty before there is a map. */
  get extent(): Extent {
    return this.#projection ? this.map.getView().calculateExtent(this.size) : createEmpty();
  }

  get size(): [number, number] {
    const [width, height] = this.map.getSize() ?? [0, 0];
    return [width!, height!];
  }

  /** Zoom of the tiles that are drawn: no more than the tiles' largest. */
  get tileZoom(): number {
    const resolution = this.map.getView().getResolution();
    return resolution && this.#grid ? this.#grid.getZForResolution(resolution) : 0;
  }

  /** How many cells of a collection's grid lie under a pixel of the tiles, side by side, about. */
  cellsPerPixel(collection: Collection, resolution = this.#grid?.getResolution(this.tileZoom) ?? 1): number {
    const centre = this.map.getView().getCenter();
    if (!centre || !this.#projection) {
      return 1;
    }
    if (this.#projection.code === collection.crs) {
      return resolution / collection.resolution;
    }
    const metres = getPointResolution(olProjection(this.#projection), resolution, centre, "m");
    // Grids in degrees have cells well below one, those in metres hardly ever.
    const degrees = collection.crs === "EPSG:4326" || collection.resolution < 0.05;
    return metres / (collection.resolution * (degrees ? METRES_PER_DEGREE : 1));
  }

  toLonLat(at: Coordinate): [number, number] {
    const [lon, lat] = toLonLat(at, this.map.getView().getProjection());
    return [lon!, lat!];
  }

  /** The extent of a collection, in the map's CRS. */
  extentOf(collection: Collection, projection: MapProjection): Extent {
    if (projection.code === collection.crs) {
      return collection.bounds;
    }
    const [west, south, east, north] = collection.lonlat;
    const [low, high] = projection.latitudes;
    const beyond = west > east ? 360 : 0; // it crosses 180 degrees
    const box = [west, Math.max(south, low), east + beyond, Math.min(north, high)];
    return transformExtent(box, "EPSG:4326", olProjection(projection), 8);
  }

  /** Mark the map as busy (`aria-busy`) until some work has given it a picture, and that is drawn. */
  async expect<T>(work: Promise<T>): Promise<T> {
    this.#expected++;
    this.#setBusy(true);
    return work.finally(() => {
      this.#expected--;
      if (this.#projection) {
        this.map.render();
      } else {
        this.#setBusy(false);
      }
    });
  }

  #setBusy(busy: boolean): void {
    this.map.getTargetElement()?.setAttribute("aria-busy", String(busy || this.#expected > 0));
  }

  get #reducedMotion(): boolean {
    return matchMedia("(prefers-reduced-motion: reduce)").matches;
  }
}

/** False where something of a place is missing. */
export function isWhole({ x, y, z }: Place): boolean {
  return Number.isFinite(x + y + z);
}

function round(number: number, digits: number): number {
  return Number(number.toFixed(digits));
}
