import type { Coordinate } from "ol/coordinate";
import { getWidth } from "ol/extent";
import Feature from "ol/Feature";
import TopoJSON from "ol/format/TopoJSON";
import { LineString, MultiLineString, MultiPolygon, Polygon } from "ol/geom";
import VectorLayer from "ol/layer/Vector";
import { fromLonLat, type Projection } from "ol/proj";
import VectorSource from "ol/source/Vector";
import { Fill, Stroke, Style, Text } from "ol/style";
import address from "world-atlas/land-50m.json";

import type { Palette } from "./palette";
import { type MapProjection, olProjection } from "./projection";

type Rings = Coordinate[][];

/** What is written along a line, and the largest units per pixel at which there is room for it. */
interface Labels {
  label: string;
  legible: number;
}

const METRES_PER_DEGREE = 111_320;

/** Outlines of the land, loaded once: polygons in lon/lat. */
let outlines: Promise<Rings[]> | null = null;

/** Land and graticule, for orientation: what lies below and around a collection. */
export class Basemap {
  readonly layer = new VectorLayer({ source: new VectorSource(), zIndex: 0, className: "land" });
  readonly lines = new VectorLayer({ source: new VectorSource(), zIndex: 2, className: "graticule" });
  #projection: MapProjection | null = null;

  /** Draw in a projection and with a theme's colours. */
  async show(projection: MapProjection, colours: Palette): Promise<void> {
    this.#style(colours);
    if (this.#projection === projection) {
      return;
    }
    this.#projection = projection;
    this.layer.getSource()?.clear();
    this.lines.getSource()?.clear();
    this.lines.getSource()?.addFeatures(graticule(projection));
    const polygons = await (outlines ??= loadOutlines()).catch(() => null);
    if (!polygons) {
      outlines = this.#projection = null; // asked for again when something is shown next
    } else if (this.#projection === projection) {
      this.layer.getSource()?.addFeatures(land(polygons, projection));
      this.lines.getSource()?.addFeatures(coast(polygons, projection));
    }
  }

  #style(colours: Palette): void {
    const fill = new Style({
      fill: new Fill({ color: colours.land }),
      // Of the same colour: it closes the seam where polygons are cut at 180 degrees.
      stroke: new Stroke({ color: colours.land, width: 1 }),
    });
    const shore = new Style({ stroke: new Stroke({ color: colours.coast, width: 0.8 }) });
    this.layer.setStyle(fill);
    this.lines.setStyle((feature, resolution) => {
      const { label, legible } = feature.getProperties() as Partial<Labels>;
      return label === undefined ? shore : gridLine(resolution > legible! ? "" : label, colours);
    });
  }
}

function gridLine(label: string, colours: Palette): Style {
  return new Style({
    stroke: new Stroke({ color: colours.graticule, width: 1 }),
    text: new Text({
      text: label,
      font: "11px system-ui, sans-serif",
      placement: "line",
      repeat: 600,
      overflow: false,
      fill: new Fill({ color: colours.label }),
      stroke: new Stroke({ color: colours.halo, width: 3 }),
    }),
  });
}

async function loadOutlines(): Promise<Rings[]> {
  const response = await fetch(new URL(address, import.meta.url));
  if (!response.ok) {
    throw new Error(`the outlines of the land: ${response.status}`);
  }
  const features = new TopoJSON({ layers: ["land"] }).readFeatures(await response.json());
  return features.flatMap((feature) => {
    const geometry = feature.getGeometry();
    if (geometry instanceof MultiPolygon) {
      return geometry.getCoordinates();
    }
    return geometry instanceof Polygon ? [geometry.getCoordinates()] : [];
  });
}

/** Polygons with at least a corner in latitudes that the projection can draw. */
function land(polygons: Rings[], projection: MapProjection): Feature[] {
  const target = olProjection(projection);
  const [south, north] = projection.latitudes;
  const polar = projection.tms.startsWith("EPSG");
  const drawn = polygons
    .filter((rings) => rings[0]?.some(([, lat]) => lat! > south && lat! < north))
    .map((rings) => rings.map(unwrapped));
  const copies = polar ? drawn : drawn.flatMap((rings) => [rings, ...shifted(rings)]);
  const project = (ring: Coordinate[]) =>
    ring
      // The corners at the pole close Antarctica on flat maps alone.
      .filter(([, lat]) => projection.code !== "EPSG:3031" || lat! > -89.9)
      .map(([lon, lat]) => toPlane([lon!, polar ? lat! : Math.min(north, Math.max(south, lat!))], target));
  return copies.map((rings) => new Feature(new Polygon(rings.map(project))));
}

/** Longitude and latitude in a plane; longitudes beyond 180 lie beyond its edge. */
function toPlane([lon, lat]: Coordinate, target: Projection): Coordinate {
  const whole = Math.round(lon! / 360);
  const [x, y] = fromLonLat([lon! - 360 * whole, lat!], target);
  const width = target.isGlobal() ? getWidth(target.getExtent()) : 0;
  return [x! + whole * width, y!];
}

/** A ring whose longitudes do not jump at 180; one around a pole is closed by way of it. */
function unwrapped(ring: Coordinate[]): Coordinate[] {
  let turn = 0;
  let before = ring[0]?.[0] ?? 0;
  const found = ring.map(([lon, lat]): Coordinate => {
    turn += lon! - before > 180 ? -360 : lon! - before < -180 ? 360 : 0;
    before = lon!;
    return [lon! + turn, lat!];
  });
  const [first, last] = [found[0], found.at(-1)];
  if (turn !== 0 && first && last) {
    const pole = first[1]! < 0 ? -90 : 90;
    found.push([last[0]!, pole], [first[0]!, pole]);
  }
  return found;
}

/** What reaches beyond 180 once more, where it comes in at the other edge. */
function shifted(rings: Rings): Rings[] {
  const lons = (rings[0] ?? []).map(([lon]) => lon!);
  const by = Math.max(...lons) > 180 ? -360 : Math.min(...lons) < -180 ? 360 : 0;
  return by ? [rings.map((ring) => ring.map(([lon, lat]) => [lon! + by, lat!]))] : [];
}

/** Shores, without the cuts along 180 degrees and the pole that polygons have. */
function coast(polygons: Rings[], projection: MapProjection): Feature[] {
  const target = olProjection(projection);
  const [south, north] = projection.latitudes;
  const lines: Coordinate[][] = [];
  for (const ring of polygons.flat()) {
    let line: Coordinate[] = [];
    for (const [index, [lon, lat]] of ring.entries()) {
      const before = ring[index - 1]?.[0] ?? lon!;
      const cut = (Math.abs(lon!) > 179.99 && Math.abs(before) > 179.99) || Math.abs(lon! - before) > 180;
      const hidden = lat! < Math.max(south, -85) || lat! > north;
      if (cut || hidden) {
        lines.push(line);
        line = [];
      }
      if (!hidden) {
        line.push(fromLonLat([lon!, lat!], target));
      }
    }
    lines.push(line);
  }
  return [new Feature(new MultiLineString(lines.filter(({ length }) => length > 1)))];
}

/** A line for every tenth degree of latitude and every thirtieth of longitude. */
function graticule(projection: MapProjection): Feature[] {
  const target = olProjection(projection);
  const [south, north] = projection.latitudes;
  const lines: Feature[] = [];
  const draw = (points: Coordinate[], label: string, legible = Infinity) =>
    lines.push(new Feature({ geometry: new LineString(points.map((at) => fromLonLat(at, target))), label, legible }));
  // Where there are less than 40 pixels between two parallels, every third has a label.
  const near = (projection.metres ? 10 * METRES_PER_DEGREE : 10) / 40;
  for (let lat = -80; lat <= 80; lat += 10) {
    if (lat >= south && lat <= north) {
      const label = `${Math.abs(lat)}°${lat < 0 ? " S" : lat > 0 ? " N" : ""}`;
      draw(range(-180, 180).map((lon) => [lon, lat]), label, lat % 30 ? near : Infinity);
    }
  }
  const [low, high] = [Math.max(south, -80), Math.min(north, 80)];
  for (let lon = -180; lon < 180; lon += 30) {
    draw(range(low, high).map((lat) => [lon, lat]), `${Math.abs(lon)}°${lon < 0 && lon > -180 ? " W" : lon > 0 ? " E" : ""}`);
  }
  return lines;
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
