import { createEmpty, type Extent, extend, getArea, isEmpty } from "ol/extent";
import GeoJSON from "ol/format/GeoJSON";

import type { Collection } from "../daemon/collection";
import type { Daemon } from "../daemon/daemon";
import type { MapProjection } from "./projection";

/** Squares that one question is about, at most: large squares are enough to find where to look closer. */
const MOST_SQUARES = 2000;
const LARGEST_SQUARE = 1024;

/** The picture whose cached chunks are looked for. */
interface CachedExtentRequest {
  collection: Collection;
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
  request: CachedExtentRequest,
  levels: Readonly<Record<string, number>>,
): Promise<CachedExtent | null> {
  // Chunks of a level may all be of other bands, or of another time step.
  for (const level of Object.keys(levels).filter((name) => levels[name])) {
    const extent = await cachedAt(daemon, request, Number(level));
    if (extent) {
      return { extent, level: Number(level) };
    }
  }
  return null;
}

/** The extent of what is cached of a level, as exact as few questions can tell; null where nothing is. */
async function cachedAt(daemon: Daemon, request: CachedExtentRequest, level: number): Promise<Extent | null> {
  const { collection, projection } = request;
  const side = collection.resolution * collection.chunk * 2 ** level;
  let cell = squareFor(collection.size / (collection.chunk * 2 ** level) ** 2);
  let found = await squares(daemon, request, level, cell, null);
  // Units of the grid and of the map are the same there, so chunks under an extent can be counted.
  while (found && cell > 1 && projection.code === collection.crs) {
    const smaller = squareFor(getArea(found) / side ** 2);
    if (smaller >= cell) {
      break;
    }
    cell = smaller;
    found = await squares(daemon, request, level, cell, found);
  }
  return found;
}

/** The extent of squares in which chunks are cached, in all the collection or under another extent. */
async function squares(
  daemon: Daemon,
  { collection, projection, bands, datetime }: CachedExtentRequest,
  level: number,
  cell: number,
  under: Extent | null,
): Promise<Extent | null> {
  const bbox = under ? { bbox: under.join(","), "bbox-crs": projection.crs } : {};
  const query = { crs: projection.crs, level: String(level), properties: bands.join(","), datetime, cell, ...bbox };
  const document = await daemon.document<object>(`collections/${collection.id}/inventory`, query);
  const extent = createEmpty();
  for (const feature of new GeoJSON().readFeatures(document)) {
    const geometry = feature.getGeometry();
    if (geometry && feature.get("state") !== "void") {
      extend(extent, geometry.getExtent());
    }
  }
  return isEmpty(extent) ? null : extent;
}

/** Chunks along the side of a square, a power of two, so that not too many squares hold some chunks. */
function squareFor(chunks: number): number {
  const side = Math.ceil(Math.log2(Math.sqrt(Math.max(1, chunks / MOST_SQUARES))));
  return Math.min(LARGEST_SQUARE, 2 ** side);
}
