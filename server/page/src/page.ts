import { render } from "lit-html";

import { type Collection, initialCollection, loadCollections } from "./daemon/collection";
import { Daemon } from "./daemon/daemon";
import { listen } from "./daemon/events";
import { asProblem, type Problem } from "./daemon/problem";
import type { Status } from "./daemon/status";
import { Token } from "./daemon/token";
import { palette } from "./map/palette";
import { projectionsFor } from "./map/projection";
import { Catalogue } from "./panel/catalogue";
import { Jobs } from "./panel/jobs";
import { notices, overlay, panel, tools } from "./panel/sections";
import { Scene } from "./scene";
import { Theme } from "./theme";
import { Address, completed, type View, viewOf } from "./view";

/** The whole page: what is looked at, the daemon's state, and the parts that show them. */
export class Page {
  readonly token = new Token(() => this.refresh());
  readonly theme = new Theme(() => this.#paint());
  readonly daemon = new Daemon(this.token);
  readonly address = new Address((before) => void this.#apply(before));
  readonly jobs = new Jobs(this.daemon, () => this.refresh());
  readonly catalogue = new Catalogue(() => this.refresh());
  readonly scene = new Scene(
    this.daemon,
    this.jobs,
    part("chart"),
    palette(this.theme.dark),
    () => this.refresh(),
    () => {
      this.address.note(this.#place);
      this.scene.look(this.address.view);
    },
  );

  collections: Collection[] = [];
  status: Status | null = null;
  problem: Problem | null = null;
  /** The collection that the address asked for and that is not served; else empty. */
  missing = "";
  connected = true;
  #waiting = false;
  #following = false;
  /** Chunks cached when the region's plan was last asked for. */
  #cached = 0;

  /** Load the collections, and follow the daemon's state. */
  start(): void {
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && this.scene.box.drawing) {
        this.scene.toggleDrawing();
      }
    });
    document.querySelector("[data-skip]")?.addEventListener("click", (event) => {
      event.preventDefault(); // the hash is the view's
      part("chart").focus();
    });
    void this.load();
  }

  /** Ask for everything anew: at the start, with another token, or after the daemon was away. */
  load(): Promise<void> {
    return this.scene.chart.expect(this.#load());
  }

  async #load(): Promise<void> {
    try {
      [this.collections, this.status] = await Promise.all([
        loadCollections(this.daemon),
        this.daemon.document<Status>("status"),
      ]);
      this.scene.legend.forget();
      this.#follow();
      await this.#apply(null);
    } catch (error) {
      this.problem = asProblem(error);
      if (this.problem.status !== 401) {
        this.#follow(); // notices when the daemon is there again
      }
      this.refresh();
    }
  }

  /** Follow the daemon's state from now on. Without its token there is nothing to follow. */
  #follow(): void {
    if (this.#following) {
      return;
    }
    this.#following = true;
    const listener = {
      onEvent: ({ data }: { data: string }) => this.#onStatus(JSON.parse(data) as Status),
      onConnected: (connected: boolean) => this.#connect(connected),
    };
    void listen(this.daemon, this.daemon.url("status"), listener, new AbortController().signal);
  }

  /** Bring the page to what the address says. */
  async #apply(before: View | null): Promise<void> {
    const chunks = (id: string) => this.status?.collections.find((one) => one.id === id)?.chunks ?? 0;
    const asked = this.address.view;
    const found = this.collections.find(({ id }) => id === asked.collection);
    const collection = found ?? initialCollection(this.collections, chunks);
    if (!collection) {
      this.refresh();
      return;
    }
    this.missing = found ? "" : asked.collection;
    const wanted = this.missing ? viewOf(collection.id) : asked;
    const projections = projectionsFor(collection.crs);
    const projection = projections.find(({ tms }) => tms === wanted.tms) ?? projections[0]!;
    this.address.note({ ...wanted, ...completed(wanted, collection, projection) });
    const { view } = this.address;
    const same = (["collection", "tms", "style", "rescale", "datetime"] as const).every((name) => before?.[name] === view[name]);
    try {
      if (this.#isHere) {
        this.scene.go(view);
      }
      if (!same && (await this.scene.show(collection, projection, view, this.status))) {
        const level = this.scene.startLevel;
        if (level !== null && view.level === "" && level !== this.scene.drawnLevel) {
          this.address.note({ level: String(level) });
        }
        document.title = `${collection.title} · Icehouse`;
        requestAnimationFrame(() => this.#showChosen());
      }
      this.problem = null;
      this.address.note(this.#place);
      this.scene.look(this.address.view);
    } catch (error) {
      this.problem = asProblem(error);
    }
    this.refresh();
  }

  /** True where the map shows the address' collection in its projection, not one that is on its way out. */
  get #isHere(): boolean {
    const { collection, tms } = this.address.view;
    const { shown } = this.scene;
    return shown?.collection.id === collection && shown.projection.tms === tms;
  }

  get #place(): Partial<View> {
    return this.#isHere ? this.scene.chart.place : {};
  }

  /** Go to another view from where the map is now. */
  go(change: Partial<View>): void {
    this.address.go({ ...this.#place, ...change });
  }

  /** Zoom to what is cached of the collection. */
  async showCached(): Promise<void> {
    const level = await this.scene.zoomToCached(this.status);
    if (level !== null) {
      this.go({ inventory: true, level: level === this.scene.drawnLevel ? "" : String(level) });
    }
  }

  /** Scroll the list of collections, and it alone, to the chosen one. */
  #showChosen(): void {
    const chosen = document.querySelector(".collections [aria-current]");
    const list = chosen?.closest(".collections");
    if (chosen && list) {
      const [inner, outer] = [chosen.getBoundingClientRect(), list.getBoundingClientRect()];
      list.scrollTop += Math.min(0, inner.top - outer.top) + Math.max(0, inner.bottom - outer.bottom);
    }
  }

  #onStatus(status: Status): void {
    this.status = status;
    this.jobs.update(status.jobs);
    const cached = status.collections.reduce((sum, { chunks }) => sum + chunks, 0);
    if (cached !== this.#cached) {
      this.#cached = cached;
      void this.scene.region.plan();
    }
    this.refresh();
  }

  #connect(connected: boolean): void {
    if (this.connected !== connected) {
      this.connected = connected;
      if (connected) {
        void this.load();
      }
      this.refresh();
    }
  }

  #paint(): void {
    this.scene.paint(palette(this.theme.dark));
    this.refresh();
  }

  /** Draw the page once, however much changes until the next frame. */
  refresh(): void {
    if (!this.#waiting) {
      this.#waiting = true;
      requestAnimationFrame(() => {
        this.#waiting = false;
        render(tools(this), part("tools"));
        render(notices(this), part("notices"));
        render(panel(this), part("panel"));
        render(overlay(this), part("over"));
      });
    }
  }
}

function part(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (!found) {
    throw new Error(`index.html has no element ${id}`);
  }
  return found;
}
