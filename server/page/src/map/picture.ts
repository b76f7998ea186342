import TileGrid from "ol/tilegrid/TileGrid";

import type { Daemon } from "../daemon/daemon";
import type { MapProjection } from "./projection";

/** The picture that is shown: which tiles. */
export interface Picture {
  collection: string;
  projection: MapProjection;
  style: string;
  rescale: string;
  datetime: string;
  /** False where neither style nor user gives a range of values: its tiles would be refused. */
  drawable: boolean;
  grid: TileGrid;
  /** First zoom at which tiles have the daemon fetch what is absent. */
  fetchZoom: number;
}

interface TileJson {
  minzoom: number;
  maxzoom: number;
}

interface TileMatrixSet {
  tileMatrices: {
    cellSize: number;
    pointOfOrigin: [number, number];
    tileWidth: number;
    tileHeight: number;
    matrixWidth: number;
    matrixHeight: number;
  }[];
}

/** Load what has to be known before tiles can be requested. */
export async function loadPicture(
  daemon: Daemon,
  request: Pick<Picture, "collection" | "projection" | "style" | "rescale" | "datetime" | "drawable">,
): Promise<Picture> {
  const { collection, projection, style, datetime, drawable } = request;
  // Zooms are those of any range.
  const rescale = drawable ? request.rescale : "0,1";
  const [{ minzoom, maxzoom }, { tileMatrices }] = await Promise.all([
    daemon.document<TileJson>(`collections/${collection}/${projection.tms}/tilejson.json`, {
      style,
      rescale,
      datetime,
    }),
    daemon.document<TileMatrixSet>(`tileMatrixSets/${projection.tms}`),
  ]);
  return { ...request, grid: gridOf(tileMatrices, maxzoom), fetchZoom: minzoom };
}

/** OpenLayers' grid of the matrices (OGC) up to a zoom; beyond it the last one's tiles are drawn larger. */
function gridOf(tileMatrices: TileMatrixSet["tileMatrices"], maxZoom: number): TileGrid {
  const matrices = [...tileMatrices].sort((a, b) => b.cellSize - a.cellSize).slice(0, maxZoom + 1);
  return new TileGrid({
    resolutions: matrices.map(({ cellSize }) => cellSize),
    origins: matrices.map(({ pointOfOrigin }) => pointOfOrigin),
    tileSizes: matrices.map(({ tileWidth, tileHeight }) => [tileWidth, tileHeight]),
    sizes: matrices.map(({ matrixWidth, matrixHeight }) => [matrixWidth, matrixHeight]),
  });
}
