import type { Coordinate } from "ol/coordinate";
import type { Extent } from "ol/extent";
import { render } from "lit-html";

import { boxCrs, BoxDraw, boxOf } from "./boxdraw";
import { Catalogue } from "./catalogue";
import { Chart } from "./chart";
import { type Collection, loadCollections } from "./collection";
import { Daemon } from "./daemon";
import { listen } from "./events";
import { Inventory } from "./inventory";
import { Jobs } from "./jobs";
import { Land } from "./land";
import { Legend } from "./legend";
import { loadTileGrid } from "./matrices";
import { notices, overlay, panel, tools } from "./parts";
import { palette } from "./palette";
import { Point } from "./point";
import { asProblem, type Problem } from "./problem";
import { type MapProjection, projectionsFor } from "./projection";
import { RegionPanel } from "./region";
import type { Status } from "./status";
import { Theme } from "./theme";
import { Tiles } from "./tiles";
import { Token } from "./token";
import { Address, type View } from "./view";

interface TileJson {
  minzoom: number;
  maxzoom: number;
}

/** The whole page: what is looked at, and the parts that show it. */
export class Page {
  readonly #redraw = () => this.#soon();
  readonly token = new Token(this.#redraw);
  readonly theme = new Theme(() => this.#paint());
  readonly daemon = new Daemon(this.token);
  readonly address = new Address((before) => void this.#apply(before));
  readonly tiles = new Tiles(this.daemon, this.#redraw);
  readonly land = new Land();
  readonly inventory = new Inventory(this.daemon, this.#redraw, () => this.tiles.refill());
  readonly legend = new Legend(this.daemon, this.#redraw);
  readonly point = new Point(this.daemon, this.#redraw);
  readonly jobs = new Jobs(this.daemon, this.#redraw);
  readonly catalogue = new Catalogue(this.#redraw);
  readonly region = new RegionPanel(this.daemon, this.jobs, this.#redraw, () => this.#toggleDrawing());
  readonly chart = new Chart(
    part("chart"),
    [this.land.layer, this.land.lines, this.tiles.layer, this.inventory.layer],
    (place) => this.#moved(place),
    (at) => this.#ask(at),
  );
  readonly box = new BoxDraw(this.chart.map, (extent) => this.#drawn(extent));

  collections: Collection[] = [];
  collection: Collection | null = null;
  projection: MapProjection | null = null;
  status: Status | null = null;
  problem: Problem | null = null;
  connected = true;
  /** First zoom at which tiles fetch what is absent. */
  fetchZoom = 0;
  #waiting = false;
  #turn = 0;
  #seen = -1;

  /** Load the collections, and follow the daemon's state from now on. */
  start(): void {
    this.chart.map.addLayer(this.box.layer);
    this.#paint();
    const listener = {
      onEvent: ({ data }: { data: string }) => this.#told(JSON.parse(data) as Status),
      onConnected: (connected: boolean) => this.#connect(connected),
    };
    void listen(this.daemon, this.daemon.url("status/events"), listener, new AbortController().signal);
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && this.box.drawing) {
        this.#toggleDrawing();
      }
    });
    document.querySelector("[data-skip]")?.addEventListener("click", (event) => {
      event.preventDefault(); // the hash is the view's
      part("chart").focus();
    });
    void this.load();
  }

  /** Ask for everything anew: at the start, with another token, or after the daemon was away. */
  async load(): Promise<void> {
    try {
      this.collections = await loadCollections(this.daemon);
      this.legend.forget();
      this.problem = null;
      await this.#apply(null);
      this.tiles.retry();
    } catch (error) {
      this.problem = asProblem(error);
      this.#soon();
    }
  }

  /** Bring the page to what the address says. */
  async #apply(before: View | null): Promise<void> {
    const turn = ++this.#turn;
    const collection = this.collections.find(({ id }) => id === this.address.view.collection) ?? this.collections[0];
    if (!collection) {
      this.#soon();
      return;
    }
    const projections = projectionsFor(collection.crs);
    const projection = projections.find(({ tms }) => tms === this.address.view.tms) ?? projections[0]!;
    this.#complete(collection, projection);
    const { view } = this.address;
    const elsewhere = before?.collection !== view.collection || before.tms !== view.tms;
    const otherPicture = elsewhere || before.style !== view.style || before.datetime !== view.datetime;
    if (elsewhere) {
      this.point.close();
    }
    try {
      if (otherPicture) {
        await this.#picture(collection, projection, turn, elsewhere);
      } else if (before.x !== view.x || before.y !== view.y || before.z !== view.z) {
        this.chart.go(view);
      }
    } catch (error) {
      this.problem = asProblem(error);
    }
    if (turn === this.#turn) {
      this.#look();
    }
  }

  /** Put what was left open into the address. */
  #complete(collection: Collection, projection: MapProjection): void {
    const { view } = this.address;
    const style = collection.styles.find(({ name }) => name === view.style) ?? collection.styles[0];
    const step = collection.steps.find((start) => start === view.datetime) ?? collection.steps.at(-1);
    this.address.note({
      collection: collection.id,
      tms: projection.tms,
      style: style?.name ?? "",
      datetime: step ?? "",
    });
  }

  async #picture(collection: Collection, projection: MapProjection, turn: number, elsewhere: boolean): Promise<void> {
    const { style, datetime } = this.address.view;
    const path = `collections/${collection.id}/${projection.tms}/tilejson.json`;
    const [{ minzoom, maxzoom }] = await Promise.all([
      this.daemon.document<TileJson>(path, { style, datetime }),
      this.legend.load(collection.id, { style }),
    ]);
    const grid = await loadTileGrid(this.daemon, projection.tms, maxzoom);
    if (turn !== this.#turn) {
      return;
    }
    [this.collection, this.projection, this.fetchZoom, this.problem] = [collection, projection, minzoom, null];
    document.title = `${collection.title} · Icehouse`;
    this.tiles.show({ collection: collection.id, projection, grid, style, datetime });
    void this.land.show(projection, palette(this.theme.dark));
    if (elsewhere) {
      const { view } = this.address;
      this.chart.show(projection, grid, view, this.chart.extentOf(collection, projection));
    }
  }

  /** Tell the parts what can be seen now. */
  #look(): void {
    const { collection, projection, address } = this;
    if (!collection || !projection) {
      return;
    }
    const { view } = address;
    const bands = this.legend.bands;
    const crs = boxCrs(projection, collection.crs);
    this.region.frame({ collection, crs, bands, datetime: view.datetime });
    this.box.show(this.region.box, crs, projection);
    this.tiles.look(this.chart.extent, this.chart.tileZoom);
    this.inventory.look(
      view.inventory && {
        collection,
        projection,
        extent: this.chart.extent,
        bands: bands.join(","),
        datetime: view.datetime,
        level: view.level === "" ? this.drawnLevel : Math.min(Number(view.level), collection.levels - 1),
        cells: this.chart.cellsPerPixel(collection, this.chart.map.getView().getResolution()),
        size: this.chart.size,
      } || null,
    );
    this.#soon();
  }

  /** The level that tiles are drawn from: the coarsest whose cells are no larger than theirs. */
  get drawnLevel(): number {
    if (!this.collection) {
      return 0;
    }
    const halvings = Math.floor(Math.log2(this.chart.cellsPerPixel(this.collection)) + 1e-6);
    return Math.min(this.collection.levels - 1, Math.max(0, halvings));
  }

  #moved(place: { x: number; y: number; z: number }): void {
    this.address.note(place);
    this.#look();
  }

  #ask(at: Coordinate): void {
    if (this.collection && this.projection && !this.box.drawing) {
      const { datetime } = this.address.view;
      const place = this.chart.toLonLat(at);
      void this.point.ask(this.collection, this.projection, at, place, this.legend.bands, datetime);
    }
  }

  #toggleDrawing(): void {
    if (this.box.drawing) {
      this.box.stop();
    } else {
      this.box.start();
    }
    this.#soon();
  }

  #drawn(extent: Extent): void {
    if (this.collection && this.projection) {
      this.region.take(boxOf(extent, this.projection, boxCrs(this.projection, this.collection.crs)));
    }
  }

  #told(status: Status): void {
    this.status = status;
    this.jobs.update(status.jobs);
    const fetched = status.collections.reduce((sum, { chunks }) => sum + chunks, 0);
    if (fetched !== this.#seen) {
      this.#seen = fetched;
      void this.region.plan();
    }
    this.#soon();
  }

  #connect(connected: boolean): void {
    if (this.connected === connected) {
      return;
    }
    this.connected = connected;
    if (connected) {
      void this.load();
    }
    this.#soon();
  }

  #paint(): void {
    const colours = palette(this.theme.dark);
    this.inventory.paint(colours);
    this.box.paint(colours);
    if (this.projection) {
      void this.land.show(this.projection, colours);
    }
    this.#soon();
  }

  /** Something changed that no part tells of. */
  refresh(): void {
    this.#soon();
  }

  /** Draw the page once, however much has changed until the next frame. */
  #soon(): void {
    if (!this.#waiting) {
      this.#waiting = true;
      requestAnimationFrame(() => {
        this.#waiting = false;
        this.#draw();
      });
    }
  }

  #draw(): void {
    const { collection, projection } = this;
    if (collection && projection) {
      this.box.show(this.region.box, boxCrs(projection, collection.crs), projection);
    }
    render(tools(this), part("tools"));
    render(notices(this), part("notices"));
    render(panel(this), part("panel"));
    render(overlay(this), part("over"));
  }
}

function part(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`index.html has no element ${id}`);
  }
  return found;
}
