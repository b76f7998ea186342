import TileGrid from "ol/tilegrid/TileGrid";

import type { Daemon } from "./daemon";

interface TileMatrixSet {
  tileMatrices: {
    id: string;
    cellSize: number;
    pointOfOrigin: [number, number];
    tileWidth: number;
    tileHeight: number;
    matrixWidth: number;
    matrixHeight: number;
  }[];
}

/** Ask for a tile matrix set (OGC), and make OpenLayers' grid of its matrices up to a zoom. */
export async function loadTileGrid(daemon: Daemon, tms: string, maxZoom: number): Promise<TileGrid> {
  const { tileMatrices } = await daemon.document<TileMatrixSet>(`tileMatrixSets/${tms}`);
  const matrices = [...tileMatrices].sort((a, b) => b.cellSize - a.cellSize).slice(0, maxZoom + 1);
  return new TileGrid({
    resolutions: matrices.map(({ cellSize }) => cellSize),
    origins: matrices.map(({ pointOfOrigin }) => pointOfOrigin),
    tileSizes: matrices.map(({ tileWidth, tileHeight }) => [tileWidth, tileHeight]),
    sizes: matrices.map(({ matrixWidth, matrixHeight }) => [matrixWidth, matrixHeight]),
  });
}
