import { getIntersection } from "ol/extent";
import { get as getProjection, transformExtent } from "ol/proj";

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

/** A box of a collection, as the user requests it. */
export interface RegionRequest {
  collection: Collection;
  box: Box;
  /** CRS84, or the collection's own. */
  crs: string;
  bands: string[];
  datetime: string;
  /** Each cell as wide as 2^halvings of the grid's. */
  halvings: number;
}

/** A region that can be loaded, with its plan: curl, Python, download and seed request the same pixels. */
export interface Region {
  request: RegionRequest;
  query: Query;
  plan: Plan;
  /** The output's edges in the grid's CRS, on edges of its cells. */
  bounds: Box;
}

/** Most cells that a box has by default: more are seldom wanted, and refused beyond `max_output_pixels`. */
const MANY_CELLS = 4096 * 4096;

/** Ask for the plan of a box; null where it lies outside the collection. */
export async function planOf(daemon: Daemon, request: RegionRequest, signal: AbortSignal): Promise<Region | null> {
  const { collection, halvings } = request;
  const outer = halvings > 0 ? onGrid(request) : null;
  // On the edges of the coarser cells pixels are copied; a box between them would have them resampled.
  const bounds = outer && snapped(outer, collection, halvings);
  const query =
    bounds && collection.crs
      ? { ...queryOf(request, bounds, collection.crs), ...sizeOf(bounds, collection.resolution * 2 ** halvings) }
      : queryOf(request, request.box, request.crs);
  const plan = await daemon.json<Plan>(`collections/${collection.id}/plan`, query, { signal });
  if (!plan?.window) {
    return null;
  }
  return { request, query, plan, bounds: bounds ?? boundsOf(collection, plan.window) };
}

/** How often the cells have to be doubled in width for a box to have no more of them than by default. */
export function halvingsFor(request: RegionRequest): number {
  const [left, bottom, right, top] = onGrid(request) ?? [0, 0, 0, 0];
  const { resolution, levels } = request.collection;
  const cells = ((right - left) / resolution) * ((top - bottom) / resolution);
  return Math.min(levels - 1, Math.max(0, Math.ceil(Math.log2(cells / MANY_CELLS) / 2)));
}

/** True where the page knows the CRS, and so can project a box to the collection's grid. */
export function isKnown(crs: string | null): crs is string {
  return crs !== null && getProjection(crs) !== null;
}

/** The box in the grid's CRS: what it covers of the grid. */
function onGrid({ box, crs, collection }: RegionRequest): Box | null {
  if (!isKnown(collection.crs)) {
    return null;
  }
  const there = crs === "CRS84" ? transformExtent(box, "EPSG:4326", collection.crs, 32) : box;
  const [left, bottom, right, top] = getIntersection(there, collection.bounds);
  return left! < right! && bottom! < top! ? [left!, bottom!, right!, top!] : null;
}

/** A box of the grid moved outward to cells of 2^halvings. */
function snapped([left, bottom, right, top]: Box, { origin: [x, y], resolution }: Collection, halvings: number): Box {
  const step = resolution * 2 ** halvings;
  return [
    x + Math.floor((left - x) / step) * step,
    y - Math.ceil((y - bottom) / step) * step,
    x + Math.ceil((right - x) / step) * step,
    y - Math.floor((y - top) / step) * step,
  ];
}

function queryOf({ bands, datetime }: RegionRequest, box: Box, crs: string): Query {
  return {
    bbox: box.join(","),
    "bbox-crs": crs === "CRS84" ? undefined : crs,
    properties: bands.join(","),
    datetime,
  };
}

/** Columns and rows of a box whose edges lie on edges of cells: exactly these, where a cell size may be snapped. */
function sizeOf([left, bottom, right, top]: Box, cell: number): Query {
  return { width: Math.round((right - left) / cell), height: Math.round((top - bottom) / cell) };
}

/** Edges of a window of the grid. */
function boundsOf({ origin: [x, y], resolution }: Collection, window: NonNullable<Plan["window"]>): Box {
  const { row, col, height, width } = window;
  return [
    x + col * resolution,
    y - (row + height) * resolution,
    x + (col + width) * resolution,
    y - row * resolution,
  ];
}

/** Address of the pixels, as a file of some format. */
export function fileUrl(daemon: Daemon, { request, query }: Region, suffix: string): string {
  return daemon.url(`collections/${request.collection.id}/coverage.${suffix}`, query);
}

/** A line for a shell that loads the region. */
export function curlLine(daemon: Daemon, region: Region): string {
  return `curl -o ${region.request.collection.id}.tif "${fileUrl(daemon, region, "tif")}"`;
}

/** Lines of Python that load the region. */
export function pythonLines(daemon: Daemon, { request, bounds }: Region): string {
  const { collection, bands, datetime, halvings } = request;
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
