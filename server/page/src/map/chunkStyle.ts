import type { FeatureLike } from "ol/Feature";
import { getHeight } from "ol/extent";
import { Fill, Stroke, Style } from "ol/style";

import type { Palette } from "./palette";

/** What can be known of a chunk; one that is absent is not drawn. */
export type State = "present" | "void" | "in flight" | "failed";

export const STATES: readonly { state: State; title: string; meaning: string }[] = [
  { state: "present", title: "Present", meaning: "fetched and kept on this machine" },
  { state: "void", title: "Void", meaning: "the source has nothing here" },
  { state: "in flight", title: "In flight", meaning: "being fetched now" },
  { state: "failed", title: "Failed", meaning: "could not be fetched" },
];

/** Side of a pattern's square, in pixels. */
const TILE = 16;
/** Below this height on screen an outline would hide the square, so it is filled instead. */
const SMALL = 14;

const patterns = new Map<string, CanvasPattern | string>();

/**
 * Draw a square by its state: colour and pattern mean the same, so that either is enough.
 *
 * @param phase 0 to 15: moves the stripes of chunks in flight.
 */
export function chunkStyle(feature: FeatureLike, resolution: number, colours: Palette, phase: number): Style {
  const state = feature.get("state") as State;
  const extent = feature.getGeometry()?.getExtent();
  const small = extent !== undefined && getHeight(extent) / resolution < SMALL;
  const colour = colourOf(state, colours);
  if (state === "present") {
    return new Style({
      fill: new Fill({ color: colour + (small ? "80" : "10") }),
      stroke: new Stroke({ color: colour + (small ? "60" : "a0"), width: small ? 0.5 : 1 }),
      zIndex: 0,
    });
  }
  return new Style({
    fill: new Fill({ color: small ? `${colour}80` : patternOf(state, colour, state === "in flight" ? phase : 0) }),
    stroke: new Stroke({
      color: colour,
      width: state === "failed" ? 2 : 1,
      ...(state === "void" ? { lineDash: [2, 4] } : {}),
    }),
    zIndex: state === "void" ? 1 : 2,
  });
}

/** Draw a square of the key. */
export function drawKey(canvas: HTMLCanvasElement, state: State, colours: Palette): void {
  const context = canvas.getContext("2d");
  if (!context) {
    return;
  }
  const { width, height } = canvas;
  const colour = colourOf(state, colours);
  context.clearRect(0, 0, width, height);
  context.fillStyle = state === "present" ? colour + "30" : patternOf(state, colour, 0);
  context.fillRect(1, 1, width - 2, height - 2);
  context.strokeStyle = colour;
  context.lineWidth = state === "failed" ? 3 : 2;
  context.setLineDash(state === "void" ? [2, 3] : []);
  context.strokeRect(1, 1, width - 2, height - 2);
}

function colourOf(state: State, colours: Palette): string {
  return { present: colours.present, void: colours.void, "in flight": colours.inFlight, failed: colours.failed }[
    state
  ];
}

/** Dots for void, stripes for in flight, crosses for failed. */
function patternOf(state: State, colour: string, phase: number): CanvasPattern | string {
  const key = `${state} ${colour} ${phase}`;
  const known = patterns.get(key);
  if (known) {
    return known;
  }
  const canvas = Object.assign(document.createElement("canvas"), { width: TILE, height: TILE });
  const context = canvas.getContext("2d");
  if (!context) {
    return colour;
  }
  context.strokeStyle = context.fillStyle = colour;
  context.globalAlpha = 0.75;
  context.lineWidth = 1.5;
  const middle = TILE / 2;
  if (state === "void") {
    context.fillRect(middle - 1, middle - 1, 2, 2);
  } else if (state === "failed") {
    line(context, middle - 3, middle - 3, middle + 3, middle + 3);
    line(context, middle - 3, middle + 3, middle + 3, middle - 3);
  } else {
    // Three times over, so that the stripe goes on from square to square.
    for (const start of [-TILE, 0, TILE]) {
      line(context, start + phase - 2, TILE + 2, start + phase + TILE + 2, -2);
    }
  }
  const pattern = context.createPattern(canvas, "repeat") ?? colour;
  patterns.set(key, pattern);
  return pattern;
}

function line(context: CanvasRenderingContext2D, x1: number, y1: number, x2: number, y2: number): void {
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
}
