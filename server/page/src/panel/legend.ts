import { type TemplateResult, html, nothing, svg } from "lit-html";

import type { Daemon, Query } from "../daemon/daemon";
import { asProblem, type Problem } from "../daemon/problem";
import { value } from "../format";

interface Document {
  style: string;
  title: string;
  kind: "ramp" | "relief" | "rgb";
  units: string | null;
  bands: string[];
  rescale: [number, number][] | null;
  stops: [number, string][];
}

const CHANNELS = ["Red", "Green", "Blue"];

/** What the colours of the style mean. */
export class Legend {
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #document: Document | null = null;
  #problem: Problem | null = null;
  #asked = "";

  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Ask for the legend of a style. */
  async load(collection: string, query: Query): Promise<void> {
    const path = `collections/${collection}/legend.json`;
    const url = this.#daemon.url(path, query);
    if (url === this.#asked) {
      return;
    }
    this.#asked = url;
    const document = await this.#daemon.document<Document>(path, query).catch((error: unknown) => {
      this.#problem = asProblem(error);
      return null;
    });
    if (url === this.#asked) {
      this.#document = document;
      this.#problem = document ? null : this.#problem;
      this.#changed();
    }
  }

  /** Say nothing; what is shown next is asked for again. */
  forget(): void {
    [this.#asked, this.#document, this.#problem] = ["", null, null];
    this.#changed();
  }

  template(): TemplateResult | typeof nothing {
    if (this.#problem) {
      return html`<p class="problem">${this.#problem.text}</p>`;
    }
    const document = this.#document;
    if (!document) {
      return nothing;
    }
    return html`<figure class="legend" aria-label="Legend">
      ${document.kind === "rgb" ? channels(document) : ramp(document)}
    </figure>`;
  }
}

/** A bar of colours with its ends in figures; for a relief, a sentence about light and shade. */
function ramp({ kind, stops, units }: Document): TemplateResult {
  const first = stops[0];
  const last = stops.at(-1);
  if (!first || !last) {
    return html`<figcaption>Light falls from the upper left: slopes that face it are bright.</figcaption>`;
  }
  const unit = units && units !== "1" ? ` ${units}` : "";
  const span = last[0] - first[0] || 1;
  return html`<svg class="ramp" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">
      <defs>
        <linearGradient id="ramp">
          ${stops.map(([at, colour]) => svg`<stop offset=${(at - first[0]) / span} stop-color=${colour}></stop>`)}
        </linearGradient>
      </defs>
      <rect width="100" height="10" fill="url(#ramp)"></rect>
    </svg>
    <figcaption>
      <span>${value(first[0])}${unit}</span>
      ${stops.length > 2 ? html`<span>${value((first[0] + last[0]) / 2)}${unit}</span>` : nothing}
      <span>${value(last[0])}${unit}</span>
    </figcaption>
    ${kind === "relief" ? html`<p class="hint">Shaded by light from the upper left.</p>` : nothing}`;
}

/** Which band is red, green and blue, and from where to where. */
function channels({ bands, rescale }: Document): TemplateResult {
  return html`<dl class="channels">
    ${bands.map((band, index) => {
      const range = rescale?.[index];
      return html`<div>
        <dt><i class=${`channel ${CHANNELS[index]?.toLowerCase()}`}></i>${CHANNELS[index]}</dt>
        <dd>${band}${range ? html` <small>${value(range[0])} to ${value(range[1])}</small>` : nothing}</dd>
      </div>`;
    })}
  </dl>`;
}
