import type { Box, Collection } from "./collection";
import type { Daemon, Query } from "./daemon";

/** What a region would need; see GET /collections/{id}/plan. */
export interface Plan {
  level: number;
  window: { row: number; col: number; height: number; width: number } | null;
  chunks: { needed: number; present: number; absent: number; void: number };
  estimated_source_bytes: number;
  output_bytes: number;
}

/** A box of a collection, as a person has asked for it. */
export interface Wish {
  collection: Collection;
  box: Box;
  /** CRS84, or the collection's own. */
  crs: string;
  bands: string[];
  datetime: string;
  /** Each cell as wide as 2^halvings of the grid's. */
  halvings: number;
}

/** A region that can be loaded, with its plan: curl, Python, download and seed ask for the same pixels. */
export interface Region {
  wish: Wish;
  query: Query;
  plan: Plan;
  /** The output's edges in the grid's CRS, on edges of its cells. */
  bounds: Box;
}

/** Ask for the plan of a box; null where it lies outside the collection. */
export async function planOf(daemon: Daemon, wish: Wish, signal: AbortSignal): Promise<Region | null> {
  const path = `collections/${wish.collection.id}/plan`;
  const asDrawn = queryOf(wish, wish.box, wish.crs);
  const plan = await daemon.json<Plan>(path, asDrawn, { signal });
  if (!plan?.window) {
    return null;
  }
  const bounds = boundsOf(wish.collection, plan.window, wish.halvings);
  if (wish.halvings === 0 || wish.collection.crs === null) {
    return { wish, query: asDrawn, plan, bounds };
  }
  // On the edges of the coarser cells pixels are copied; a box between them would have them resampled.
  const query = {
    ...queryOf(wish, bounds, wish.collection.crs),
    resolution: wish.collection.resolution * 2 ** wish.halvings,
  };
  return { wish, query, plan: await daemon.document<Plan>(path, query, { signal }), bounds };
}

function queryOf({ bands, datetime }: Wish, box: Box, crs: string): Query {
  return {
    bbox: box.join(","),
    "bbox-crs": crs === "CRS84" ? undefined : crs,
    properties: bands.join(","),
    datetime,
  };
}

/** Edges of a window of the grid, moved outward to whole cells of 2^halvings. */
function boundsOf({ origin: [left, top], resolution }: Collection, window: NonNullable<Plan["window"]>, halvings: number): Box {
  const step = 2 ** halvings;
  const down = (pixel: number) => Math.floor(pixel / step) * step * resolution;
  const up = (pixel: number) => Math.ceil(pixel / step) * step * resolution;
  const { row, col, height, width } = window;
  return [left + down(col), top - up(row + height), left + up(col + width), top - down(row)];
}

/** Address of the pixels, as a file of some format. */
export function fileUrl(daemon: Daemon, { wish, query }: Region, suffix: string): string {
  return daemon.url(`collections/${wish.collection.id}/coverage.${suffix}`, query);
}

/** A line for a shell that loads the region. */
export function curlLine(daemon: Daemon, region: Region): string {
  return `curl -o ${region.wish.collection.id}.tif "${fileUrl(daemon, region, "tif")}"`;
}

/** Lines of Python that load the region. */
export function pythonLines(daemon: Daemon, { wish, bounds }: Region): string {
  const { collection, bands, datetime, halvings } = wish;
  const resolution = collection.resolution * 2 ** halvings;
  const options = [
    `bands=${JSON.stringify(bands).replaceAll('","', '", "')}`,
    ...(datetime ? [`datetime="${datetime}"`] : []),
  ].join(", ");
  return [
    "import icehouse",
    "from odc.geo.geobox import GeoBox",
    "",
    `client = icehouse.Client("${daemon.url("").replace(/\/$/, "")}")`,
    `geobox = GeoBox.from_bbox((${bounds.join(", ")}), crs="${collection.crs}", resolution=${resolution}, tight=True)`,
    `ds = client.load(geobox, "${collection.id}", ${options})`,
  ].join("\n");
}
