import { type Extent, getIntersection, wrapX } from "ol/extent";
import Feature from "ol/Feature";
import { fromExtent } from "ol/geom/Polygon";
import DragBox from "ol/interaction/DragBox";
import VectorLayer from "ol/layer/Vector";
import type OlMap from "ol/Map";
import { transformExtent } from "ol/proj";
import VectorSource from "ol/source/Vector";
import { Fill, Stroke, Style } from "ol/style";

import type { Box } from "../daemon/collection";
import type { Palette } from "./palette";
import { type MapProjection, olProjection } from "./projection";

/** The box on the map: drawn by dragging, shown as a frame. */
export class BoxDraw {
  readonly layer = new VectorLayer({ source: new VectorSource(), zIndex: 4, className: "box" });
  readonly #map: OlMap;
  readonly #drag = new DragBox({ className: "drag-box" });

  /** @param drawn called with the extent in the map's CRS. */
  constructor(map: OlMap, drawn: (extent: Extent) => void) {
    this.#map = map;
    this.#drag.setActive(false);
    this.#drag.on("boxend", () => {
      this.stop();
      drawn(this.#drag.getGeometry().getExtent());
    });
    map.addInteraction(this.#drag);
  }

  get drawing(): boolean {
    return this.#drag.getActive();
  }

  /** The next drag draws a box, where it would move the map otherwise. */
  start(): void {
    this.#drag.setActive(true);
    this.#map.getTargetElement()?.classList.add("drawing");
  }

  stop(): void {
    this.#drag.setActive(false);
    this.#map.getTargetElement()?.classList.remove("drawing");
  }

  paint(colours: Palette): void {
    this.layer.setStyle(
      new Style({
        fill: new Fill({ color: `${colours.box}18` }),
        stroke: new Stroke({ color: colours.box, width: 2.5 }),
      }),
    );
  }

  /** Show a box whose coordinates are in lon/lat, or in the map's CRS. */
  show(box: Box | null, crs: string, projection: MapProjection): void {
    const source = this.layer.getSource();
    source?.clear();
    if (box) {
      const frame = fromExtent(box);
      if (crs === "CRS84" && projection.code !== "EPSG:4326") {
        frame.transform("EPSG:4326", olProjection(projection));
      }
      source?.addFeature(new Feature(frame));
    }
  }
}

/** CRS in which a box is given: the grid's own where the map shows it, else lon/lat. */
export function boxCrs(projection: MapProjection, crs: string | null): string {
  return projection.code === crs ? projection.crs : "CRS84";
}

/** An extent of the map as a box of one world, in no finer steps than make sense. */
export function boxOf(extent: Extent, projection: MapProjection, crs: string): Box {
  const lonlat = crs === "CRS84";
  const world = olProjection(projection);
  // Beyond 180 degrees the map goes on; a box ends there.
  const part = world.canWrapX() ? getIntersection(wrapX([...extent], world), projection.extent) : extent;
  const own = lonlat ? transformExtent(part, world, "EPSG:4326") : part;
  const step = lonlat ? 1e5 : 1;
  return own.map((edge) => Math.round(edge * step) / step) as Box;
}
