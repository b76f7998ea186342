import { createEmpty, type Extent, extend, isEmpty } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";

import type { Collection } from "./collection";
import type { Daemon } from "./daemon";
import type { MapProjection } from "./projection";
import type { Status } from "./status";

/** Chunks to a square's side: few squares tell about where something is. */
const SQUARE = 16;

/** Where something of a collection is cached. */
export interface Whereabouts {
  /** In the map's CRS. */
  extent: Extent;
  level: number;
}

/** Find where something of a collection is cached, at the finest level that has any; null where nothing is. */
export async function whereabouts(
  daemon: Daemon,
  collection: Collection,
  projection: MapProjection,
  bands: readonly string[],
  datetime: string,
  status: Status | null,
): Promise<Whereabouts | null> {
  const levels = status?.collections.find(({ id }) => id === collection.id)?.levels ?? {};
  const level = Object.keys(levels).find((name) => levels[name]);
  if (level === undefined) {
    return null;
  }
  const query = { crs: projection.crs, level, properties: bands.join(","), datetime, cell: SQUARE };
  const found = await daemon.document<object>(`collections/${collection.id}/inventory`, query);
  const extent = createEmpty();
  for (const feature of new GeoJSON().readFeatures(found)) {
    const geometry = feature.getGeometry();
    if (geometry && feature.get("state") !== "void") {
      extend(extent, geometry.getExtent());
    }
  }
  return isEmpty(extent) ? null : { extent, level: Number(level) };
}
