import { createEmpty, type Extent, extend, isEmpty } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";

import type { Daemon } from "../daemon/daemon";
import type { MapProjection } from "./projection";

/** Chunks along the side of a square: a few large squares are enough to find an extent. */
const SQUARE = 16;

/** The picture whose cached chunks are looked for. */
interface CachedExtentRequest {
  collection: string;
  projection: MapProjection;
  bands: readonly string[];
  datetime: string;
}

/** Where chunks of a collection are cached. */
export interface CachedExtent {
  /** In the map's CRS. */
  extent: Extent;
  level: number;
}

/** Find where chunks are cached, at the finest level that has any; null where there are none. */
export async function findCachedExtent(
  daemon: Daemon,
  { collection, projection, bands, datetime }: CachedExtentRequest,
  levels: Readonly<Record<string, number>>,
): Promise<CachedExtent | null> {
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
