import type { Collection, Interval } from "./daemon/collection";
import { startOf } from "./daemon/timeSteps";
import type { MapProjection } from "./map/projection";

/** What is looked at: all of it is in the URL's hash, so that it can be shared and gone back to. */
export interface View {
  collection: string;
  tms: string;
  style: string;
  /** Lowest and highest value that the user wants shown, as "0,100"; empty: those of the style. */
  rescale: string;
  datetime: string;
  /** Centre in the map's CRS, and zoom of the tile matrix set; NaN: as the collection asks for. */
  x: number;
  y: number;
  z: number;
  inventory: boolean;
  /** Level of the inventory; empty: the one that is drawn. */
  level: string;
}

const EMPTY: View = {
  collection: "",
  tms: "",
  style: "",
  rescale: "",
  datetime: "",
  x: NaN,
  y: NaN,
  z: NaN,
  inventory: true,
  level: "",
};

/** Read a hash such as #collection=arcticdem-32m&z=8. Parameters that can't be read are left out. */
export function parseView(hash: string): View {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const text = (name: string) => parameters.get(name) ?? "";
  const number = (name: string) => (text(name) === "" ? NaN : Number(text(name)));
  return {
    collection: text("collection"),
    tms: text("tms"),
    style: text("style"),
    rescale: intervalOf(text("rescale")) ? text("rescale") : "",
    datetime: text("datetime"),
    x: number("x"),
    y: number("y"),
    z: number("z"),
    inventory: text("inventory") !== "off",
    level: /^\d{1,2}$/.test(text("level")) ? text("level") : "",
  };
}

/** Write a view as a hash; what is as it would be anyway is left out. */
export function formatView(view: View): string {
  const parts: [string, string][] = [
    ["collection", view.collection],
    ["tms", view.tms],
    ["style", view.style],
    ["rescale", view.rescale],
    ["datetime", view.datetime],
    ["x", Number.isFinite(view.x) ? String(view.x) : ""],
    ["y", Number.isFinite(view.y) ? String(view.y) : ""],
    ["z", Number.isFinite(view.z) ? String(view.z) : ""],
    ["inventory", view.inventory ? "" : "off"],
    ["level", view.level],
  ];
  const hash = new URLSearchParams(parts.filter(([, value]) => value !== "")).toString();
  return `#${hash.replaceAll("%3A", ":").replaceAll("%2C", ",")}`;
}

/** What was left open, or can't be had, as it will be. */
export function completed(view: View, { id, styles, steps }: Collection, { tms }: MapProjection): Partial<View> {
  const style = styles.find(({ name }) => name === view.style) ?? styles[0];
  const rescale = style?.relief ? "" : view.rescale;
  return { collection: id, tms, style: style?.name ?? "", rescale, datetime: startOf(steps, view.datetime) };
}

/** Two numbers such as "0,100", the lower one first; null for anything else. */
export function intervalOf(text: string): Interval | null {
  const numbers = text.split(",").map((part) => (part.trim() === "" ? NaN : Number(part)));
  const [low, high] = numbers;
  return numbers.length === 2 && numbers.every(Number.isFinite) && low! < high! ? [low!, high!] : null;
}

/** The view in the address bar. */
export class Address {
  view: View = parseView(location.hash);
  readonly #moved: (before: View) => void;

  /** @param moved called when the view changes, whoever changed it, with the one before. */
  constructor(moved: (before: View) => void) {
    this.#moved = moved;
    window.addEventListener("popstate", () => this.#take(parseView(location.hash)));
  }

  /** Go to another view: a step that the back button takes back. */
  go(change: Partial<View>): void {
    const next = { ...this.view, ...change };
    history.pushState(null, "", formatView(next));
    this.#take(next);
  }

  /** Record where the map is now, or what was chosen by default: no step of its own. */
  note(change: Partial<View>): void {
    this.view = { ...this.view, ...change };
    history.replaceState(null, "", formatView(this.view));
  }

  #take(next: View): void {
    const before = this.view;
    this.view = next;
    this.#moved(before);
  }
}

/** The default view of a collection. */
export function viewOf(collection: string): View {
  return { ...EMPTY, collection };
}
