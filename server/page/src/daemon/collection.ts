import type { Daemon } from "./daemon";
import { type Steps, type TimeDimension, stepsOf } from "./timeSteps";

/** A band, as shown to users. */
export interface Band {
  name: string;
  description: string;
  unit: string;
}

/** A named way to make a picture of bands. */
export interface Style {
  name: string;
  title: string;
  /** One band, or three as red, green and blue. */
  bands: readonly string[];
  /** Lowest and highest value of each band that is shown; null where the style has none. */
  rescale: readonly Interval[] | null;
  /** Light and shade alone: there are no lowest and highest values. */
  relief: boolean;
}

export type Interval = [number, number];

/** What the page knows of a collection. */
export interface Collection {
  id: string;
  title: string;
  description: string;
  attribution: string;
  license: string;
  /** Pages about it elsewhere. */
  links: readonly { title: string; href: string }[];
  bands: readonly Band[];
  styles: readonly Style[];
  steps: Steps;
  /** CRS of its grid, where that has a code. */
  crs: string | null;
  /** Left, bottom, right, top of its grid in its CRS; the same in lon/lat. */
  bounds: Box;
  lonlat: Box;
  /** Upper left corner, and width of a cell, in units of its CRS. */
  origin: [number, number];
  resolution: number;
  /** Cells of its grid. */
  size: number;
  /** Side of a chunk in pixels. */
  chunk: number;
  levels: number;
}

export type Box = [number, number, number, number];

interface Document {
  id: string;
  title: string;
  description: string;
  attribution?: string;
  license?: string;
  links: { rel: string; href: string; title?: string }[];
  bands: { name: string; description?: string; unit?: string; units?: string }[];
  renders?: Record<string, Render>;
  "cube:dimensions": { time?: TimeDimension };
  "cube:variables": Record<string, { unit?: string }>;
  extent: { spatial: { bbox: Box[] } };
  "proj:code": string | null;
  "proj:bbox": Box;
  "proj:shape": [number, number];
  "proj:transform": [number, number, number, number, number, number];
  "icehouse:chunk": number;
  "icehouse:levels"?: number;
}

interface Render {
  title?: string;
  bands: string[];
  rescale?: Interval[];
  colormap_name?: string;
  "icehouse:hillshade"?: boolean;
}

/** Ask for all collections. */
export async function loadCollections(daemon: Daemon): Promise<Collection[]> {
  const { collections } = await daemon.document<{ collections: Document[] }>("collections");
  return collections.map(collectionOf);
}

function collectionOf(document: Document): Collection {
  const [resolution, , x, , , y] = document["proj:transform"];
  return {
    id: document.id,
    title: document.title,
    description: document.description,
    attribution: document.attribution ?? "",
    license: document.license ?? "",
    links: document.links
      .filter(({ rel }) => rel === "about")
      .map(({ href, title }) => ({ href, title: title ?? href })),
    bands: document.bands.map(({ name, description, unit, units }) => ({
      name,
      description: description ?? name,
      unit: unitOf(unit ?? units ?? document["cube:variables"][name]?.unit ?? ""),
    })),
    styles: Object.entries(document.renders ?? {}).map(([name, render]) => styleOf(name, render)),
    steps: stepsOf(document["cube:dimensions"].time),
    crs: document["proj:code"],
    bounds: document["proj:bbox"],
    lonlat: document.extent.spatial.bbox[0] ?? [-180, -90, 180, 90],
    origin: [x, y],
    resolution,
    size: document["proj:shape"][0] * document["proj:shape"][1],
    chunk: document["icehouse:chunk"],
    levels: document["icehouse:levels"] ?? 1,
  };
}

function styleOf(name: string, render: Render): Style {
  const { title, bands, rescale, colormap_name } = render;
  const relief = render["icehouse:hillshade"] === true && colormap_name === undefined;
  return { name, title: title ?? name, bands, rescale: rescale ?? null, relief };
}

/** CF writes "1" for what has no unit. */
function unitOf(unit: string): string {
  return unit === "1" ? "" : unit;
}

/** The first sentence of a text: as far as a full stop before a space and a capital. */
export function firstSentence(text: string): string {
  const flat = text.replaceAll(/\s+/g, " ").trim();
  return /^.*?[.:!?](?= [A-Z]|$)/.exec(flat)?.[0] ?? flat;
}

/** The collection to show before any is chosen: the one with most chunks cached, else the smallest grid with a picture. */
export function initialCollection(collections: readonly Collection[], chunks: (id: string) => number): Collection | undefined {
  const empty = ({ styles: [first] }: Collection) => Number(!first?.relief && !first?.rescale);
  return [...collections].sort((a, b) => chunks(b.id) - chunks(a.id) || empty(a) - empty(b) || a.size - b.size)[0];
}
