import { createEmpty, type Extent, extend, isEmpty } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";

import type { Daemon } from "./daemon";
import type { MapProjection } from "./projection";

/** Chunks to a square's side: few squares tell about where something is. */
const SQUARE = 16;

/** What is looked for. */
interface Wish {
  collection: string;
  projection: MapProjection;
  bands: readonly string[];
  datetime: string;
}

/** Where something of a collection is cached. */
export interface Whereabouts {
  /** In the map's CRS. */
  extent: Extent;
  level: number;
}

/** Find where something is cached, at the finest level that has any; null where nothing is. */
export async function whereabouts(
  daemon: Daemon,
  { collection, projection, bands, datetime }: Wish,
  levels: Readonly<Record<string, number>>,
): Promise<Whereabouts | null> {
  // Chunks of a level may all be of other bands, or of another time step.
  for (const level of Object.keys(levels).filter((name) => levels[name])) {
    const query = { crs: projection.crs, level, properties: bands.join(","), datetime, cell: SQUARE };
    const found = await daemon.document<object>(`collections/${collection}/inventory`, query);
    const extent = createEmpty();
    for (const feature of new GeoJSON().readFeatures(found)) {
      const geometry = feature.getGeometry();
      if (geometry && feature.get("state") !== "void") {
        extend(extent, geometry.getExtent());
      }
    }
    if (!isEmpty(extent)) {
      return { extent, level: Number(level) };
    }
  }
  return null;
}
