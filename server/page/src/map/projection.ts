import { get as getProjection, type Projection } from "ol/proj";
import { register } from "ol/proj/proj4";
import proj4 from "proj4";

/** A projection in which maps are drawn, with the tile matrix set that goes with it. */
export interface MapProjection {
  tms: string;
  title: string;
  /** Code that OpenLayers and proj4 know. */
  code: string;
  /** What the daemon takes as `crs`; for lon/lat the name that says x is longitude. */
  crs: string;
  /** Left, bottom, right, top of what makes sense to look at. */
  extent: [number, number, number, number];
  metres: boolean;
  /** Latitudes that can be drawn: the other pole of a polar projection lies infinitely far away. */
  latitudes: [number, number];
}

/** GIBS' square around each pole. */
const POLAR: MapProjection["extent"] = [-4194304, -4194304, 4194304, 4194304];

const ALL: readonly MapProjection[] = [
  {
    tms: "EPSG3413Quad",
    title: "North polar (EPSG:3413)",
    code: "EPSG:3413",
    crs: "EPSG:3413",
    extent: POLAR,
    metres: true,
    latitudes: [20, 90],
  },
  {
    tms: "EPSG3031Quad",
    title: "South polar (EPSG:3031)",
    code: "EPSG:3031",
    crs: "EPSG:3031",
    extent: POLAR,
    metres: true,
    latitudes: [-90, -20],
  },
  {
    tms: "WorldCRS84Quad",
    title: "Longitude, latitude",
    code: "EPSG:4326",
    crs: "CRS84",
    extent: [-180, -90, 180, 90],
    metres: false,
    latitudes: [-90, 90],
  },
  {
    tms: "WebMercatorQuad",
    title: "Web Mercator (EPSG:3857)",
    code: "EPSG:3857",
    crs: "EPSG:3857",
    extent: [-20037508.34, -20037508.34, 20037508.34, 20037508.34],
    metres: true,
    latitudes: [-85, 85],
  },
];

proj4.defs([
  [
    "EPSG:3413",
    "+proj=stere +lat_0=90 +lat_ts=70 +lon_0=-45 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs",
  ],
  ["EPSG:3031", "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"],
]);
register(proj4);
for (const { code, extent } of ALL) {
  getProjection(code)?.setExtent(extent);
}

/** The projections that suit a grid, its own first where there is one. */
export function projectionsFor(code: string | null): MapProjection[] {
  const own = ALL.filter((one) => one.code === code);
  const general = ALL.filter((one) => one.tms.startsWith("W") && one.code !== code).reverse();
  return [...own, ...general];
}

/** What OpenLayers calls a projection of ours. */
export function olProjection(projection: MapProjection): Projection {
  const found = getProjection(projection.code);
  if (!found) {
    throw new Error(`${projection.code} is not registered`);
  }
  return found;
}
