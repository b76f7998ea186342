import type { Coordinate } from "ol/coordinate";
import { containsExtent } from "ol/extent";
import type TileGrid from "ol/tilegrid/TileGrid";

import type { Collection, Style } from "./daemon/collection";
import type { Daemon } from "./daemon/daemon";
import { asProblem, Problem } from "./daemon/problem";
import type { Status } from "./daemon/status";
import { Basemap } from "./map/basemap";
import { boxCrs, BoxDraw, boxOf } from "./map/boxDraw";
import { findCachedExtent } from "./map/cachedExtent";
import { Chart, isWhole, type Place } from "./map/chart";
import { Inventory } from "./map/inventory";
import type { Palette } from "./map/palette";
import { loadPicture, type Picture } from "./map/picture";
import { Point } from "./map/point";
import type { MapProjection } from "./map/projection";
import { Tiles } from "./map/tiles";
import type { Jobs } from "./panel/jobs";
import { Legend } from "./panel/legend";
import { RegionPanel } from "./panel/region";
import type { View } from "./view";

/** What is shown: of which collection, through which projection. */
export interface Shown {
  collection: Collection;
  projection: MapProjection;
  style: Style;
  picture: Picture;
}

/** The map with its layers, the values at a point, and the region. */
export class Scene {
  readonly chart: Chart;
  readonly tiles: Tiles;
  readonly inventory: Inventory;
  readonly legend: Legend;
  readonly point: Point;
  readonly region: RegionPanel;
  readonly box: BoxDraw;
  readonly #daemon: Daemon;
  readonly #basemap = new Basemap();
  readonly #changed: () => void;
  #colours: Palette;
  #turn = 0;
  #view: View | null = null;
  shown: Shown | null = null;
  /** Level of what is cached, where the map has begun there; else null. */
  startLevel: number | null = null;
  /** Why `zoomToCached` had nothing to zoom to; else empty. */
  nothingCached = "";

  /**
   * @param target the element to draw the map in.
   * @param changed called when anything changes that is shown next to the map.
   * @param moved called when the map has come to rest somewhere else.
   */
  constructor(
    daemon: Daemon,
    jobs: Jobs,
    target: HTMLElement,
    colours: Palette,
    changed: () => void,
    moved: () => void,
  ) {
    this.#daemon = daemon;
    this.#colours = colours;
    this.#changed = changed;
    this.tiles = new Tiles(daemon, changed);
    this.inventory = new Inventory(daemon, changed, () => this.tiles.refill());
    this.legend = new Legend(daemon, changed);
    this.point = new Point(daemon, changed);
    this.region = new RegionPanel(daemon, jobs, () => this.#reframe(), () => this.toggleDrawing());
    const layers = [this.#basemap.layer, this.#basemap.lines, this.tiles.layer, this.inventory.layer];
    this.chart = new Chart(target, layers, moved, (at) => this.#ask(at));
    this.box = new BoxDraw(this.chart.map, (extent) => {
      const { projection, collection } = this.shown!; // nothing can be drawn on before there is a map
      this.region.take(boxOf(extent, projection, boxCrs(projection, collection.crs)));
    });
    this.chart.map.addLayer(this.box.layer);
    this.chart.map.addLayer(this.point.layer);
    this.paint(colours);
  }

  /** Use a theme's colours. */
  paint(colours: Palette): void {
    this.#colours = colours;
    this.inventory.paint(colours);
    this.box.paint(colours);
    this.point.paint(colours);
    if (this.shown) {
      void this.#basemap.show(this.shown.projection, colours);
    }
  }

  /** Look at another place, or at the collection whole. */
  go(place: Place): void {
    if (this.shown) {
      this.chart.go(place, this.chart.extentOf(this.shown.collection, this.shown.projection));
    }
  }

  /** Show what a view says, of which collection and projection are whole; false where another came between. */
  show(collection: Collection, projection: MapProjection, view: View, status: Status | null): Promise<boolean> {
    return this.chart.expect(this.#show(collection, projection, view, status));
  }

  async #show(
    collection: Collection,
    projection: MapProjection,
    view: View,
    status: Status | null,
  ): Promise<boolean> {
    const turn = ++this.#turn;
    this.nothingCached = "";
    this.startLevel = null;
    const { style: name, rescale, datetime } = view;
    const style = collection.styles.find((one) => one.name === name)!; // the view is whole
    const drawable = style.relief || style.rescale !== null || rescale !== "";
    const request = { collection: collection.id, projection, style: name, rescale, datetime, drawable };
    const starts = !isWhole(view) && this.shown?.collection.id !== collection.id;
    const cached = { collection, projection, bands: style.bands, datetime };
    const [picture, start] = await Promise.all([
      loadPicture(this.#daemon, request),
      // Where it can't be asked, the collection is shown whole.
      starts ? findCachedExtent(this.#daemon, cached, levelsOf(status, collection)).catch(() => null) : null,
      drawable ? this.legend.load(collection.id, { style: name, rescale }) : this.legend.forget(),
    ]);
    if (turn !== this.#turn) {
      return false;
    }
    const { shown } = this;
    const elsewhere = shown?.collection.id !== collection.id || shown.projection !== projection;
    const place = this.#placeOf(view, collection, projection, picture.grid);
    this.shown = { collection, projection, style, picture };
    this.#view = view;
    this.tiles.show(picture);
    void this.#basemap.show(projection, this.#colours);
    if (elsewhere) {
      this.point.close();
      const otherwise = start?.extent ?? this.chart.extentOf(collection, projection);
      this.startLevel = start?.level ?? null;
      this.chart.show(projection, picture.grid, place, otherwise, start ? picture.fetchZoom + 1 : undefined);
    } else if (this.point.at) {
      this.#ask(this.point.at); // of another step, or of other bands
    }
    return true;
  }

  /** The view's place; where it has none, the one that another projection of the collection shows, if not all. */
  #placeOf(view: View, collection: Collection, projection: MapProjection, grid: TileGrid): Place {
    if (isWhole(view) || this.shown?.collection.id !== collection.id) {
      return view;
    }
    const whole = this.chart.extentOf(collection, this.shown.projection);
    return containsExtent(this.chart.extent, whole) ? view : this.chart.placeIn(projection, grid);
  }

  /** Update the layers and the region for what is in view now. */
  look(view: View): void {
    this.#view = view;
    if (!this.shown) {
      return;
    }
    const { collection, projection, style } = this.shown;
    const bands = [...style.bands];
    const { extent, size } = this.chart;
    this.region.follow({ collection, crs: boxCrs(projection, collection.crs), bands, datetime: view.datetime });
    this.tiles.look(extent, this.chart.tileZoom);
    const query = {
      collection,
      projection,
      extent,
      bands: bands.join(","),
      datetime: view.datetime,
      level: view.level === "" ? this.drawnLevel : Math.min(Number(view.level), collection.levels - 1),
      cells: this.chart.cellsPerPixel(collection, this.chart.map.getView().getResolution()),
      size,
    };
    this.inventory.look(view.inventory ? query : null);
  }

  /** The level that tiles are drawn from: the coarsest whose cells are no larger than theirs. */
  get drawnLevel(): number {
    if (!this.shown) {
      return 0;
    }
    const { collection } = this.shown;
    const halvings = Math.floor(Math.log2(this.chart.cellsPerPixel(collection)) + 1e-6);
    return Math.min(collection.levels - 1, Math.max(0, halvings));
  }

  /** Look at the collection whole. */
  overview(): void {
    this.go({ x: NaN, y: NaN, z: NaN });
  }

  /** Zoom to what is cached of the collection, and return its level; null, and the reason in `nothingCached`, where nothing is. */
  async zoomToCached(status: Status | null): Promise<number | null> {
    if (!this.shown) {
      return null;
    }
    const turn = this.#turn;
    const { collection, projection, style, picture } = this.shown;
    const levels = levelsOf(status, collection);
    const request = { collection, projection, bands: style.bands, datetime: picture.datetime };
    const found = await findCachedExtent(this.#daemon, request, levels).catch(asProblem);
    if (turn !== this.#turn) {
      return null;
    }
    this.#changed();
    if (found === null) {
      const some = Object.values(levels).some((chunks) => chunks > 0);
      const what = !some ? "collection" : collection.steps.count ? "time step" : "style";
      this.nothingCached = `Nothing of this ${what} is kept here.`;
      return null;
    }
    if (found instanceof Problem) {
      this.nothingCached = found.text;
      return null;
    }
    this.nothingCached = "";
    this.chart.fit(found.extent, picture.fetchZoom + 1);
    return found.level;
  }

  /** The next drag draws a box, or moves the map again. */
  toggleDrawing(): void {
    if (this.box.drawing) {
      this.box.stop();
    } else {
      this.box.start();
    }
    this.#changed();
  }

  #ask(at: Coordinate): void {
    if (this.shown && this.#view && !this.box.drawing) {
      const { collection, projection, style } = this.shown;
      const place = this.chart.toLonLat(at);
      void this.point.ask(collection, projection, at, place, style.bands, this.#view.datetime);
    }
  }

  /** The region has changed: its frame on the map as well. */
  #reframe(): void {
    if (this.shown) {
      const { collection, projection } = this.shown;
      this.box.show(this.region.box, boxCrs(projection, collection.crs), projection);
    }
    this.#changed();
  }
}

/** How many chunks of each level are cached. */
function levelsOf(status: Status | null, collection: Collection): Readonly<Record<string, number>> {
  return status?.collections.find(({ id }) => id === collection.id)?.levels ?? {};
}
