import { type TemplateResult, html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";

import type { Box, Collection } from "../daemon/collection";
import type { Daemon } from "../daemon/daemon";
import { download } from "../daemon/download";
import { asProblem, Problem, sentence } from "../daemon/problem";
import { curlLine, fileUrl, halvingsFor, isKnown, planOf, pythonLines, type Region } from "../daemon/regionPlan";
import { bytes, cell, count, counted } from "../format";
import { coordinateForm } from "./coordinateForm";
import { copyable } from "./copyable";
import type { Jobs } from "./jobs";

/** What the panel needs to know of the map. */
export interface RegionContext {
  collection: Collection;
  crs: string;
  bands: string[];
  datetime: string;
}

/** The box of a region, and what is being done with it. */
interface Drawn {
  /** In `crs` of the context. */
  box: Box;
  /** Each cell as wide as 2^halvings of the grid's. */
  halvings: number;
  action: Action;
}

/** What is known of the region: nothing before a box is drawn, then what came of asking for its plan. */
type RegionState =
  | { kind: "none" }
  | (Drawn & { kind: "planning" })
  | (Drawn & { kind: "outside" })
  | (Drawn & { kind: "refused"; problem: Problem })
  | (Drawn & { kind: "planned"; region: Region });

/** A download, or the start of a job; one that failed stays until something else is done. */
type Action = { kind: "idle" } | { kind: "running"; text: string } | { kind: "failed"; problem: Problem };

const IDLE: Action = { kind: "idle" };

/** The box: what it would cost, and what can be done with it. */
export class RegionPanel {
  readonly #daemon: Daemon;
  readonly #jobs: Jobs;
  readonly #changed: () => void;
  readonly #draw: () => void;
  #context: RegionContext | null = null;
  #state: RegionState = { kind: "none" };
  /** Ends all requests for this box and these choices. */
  #abort = new AbortController();
  /** Number of plans requested so far, and of the latest of them that has been answered. */
  #requested = 0;
  #answered = 0;

  /**
   * @param changed called when the panel changes.
   * @param draw called when a box is to be drawn on the map, or no longer.
   */
  constructor(daemon: Daemon, jobs: Jobs, changed: () => void, draw: () => void) {
    this.#daemon = daemon;
    this.#jobs = jobs;
    this.#changed = changed;
    this.#draw = draw;
  }

  /** The box, in `crs` of the context. */
  get box(): Box | null {
    return this.#state.kind === "none" ? null : this.#state.box;
  }

  /** Follow the map to another collection, style or projection: a box in coordinates that mean something else goes. */
  follow(context: RegionContext): void {
    const before = this.#context;
    this.#context = context;
    if (before?.crs !== context.crs || before.collection.id !== context.collection.id) {
      this.take(null);
    } else if (before.bands.join() !== context.bands.join() || before.datetime !== context.datetime) {
      this.#restart({});
    }
  }

  /** Take a box, and ask for its plan. */
  take(box: Box | null): void {
    if (box) {
      const halvings = this.#context ? halvingsFor({ ...this.#context, box, halvings: 0 }) : 0;
      this.#state = { kind: "planning", box, halvings, action: IDLE };
    } else {
      this.#state = { kind: "none" };
    }
    this.#cancel();
  }

  /** Ask for another plan of the box: the one before no longer applies, nor does what was done with it. */
  #restart(change: { halvings?: number }): void {
    if (this.#state.kind !== "none") {
      const { box, halvings } = this.#state;
      this.#state = { kind: "planning", box, halvings, action: IDLE, ...change };
      this.#cancel();
    }
  }

  /** End all requests, and look at the plan again. */
  #cancel(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#act(IDLE);
    void this.plan();
  }

  /** Note what is being done with the box. */
  #act(action: Action): void {
    if (this.#state.kind !== "none") {
      this.#state = { ...this.#state, action };
    }
    this.#changed();
  }

  /** Ask for the plan anew: what is present may have changed. */
  async plan(): Promise<void> {
    const state = this.#state;
    if (!this.#context || state.kind === "none" || state.action.kind === "running") {
      return;
    }
    const { signal } = this.#abort;
    const number = (this.#requested += 1);
    const request = { ...this.#context, box: state.box, halvings: state.halvings };
    const found = await planOf(this.#daemon, request, signal).catch((error: unknown) => asProblem(error));
    if (signal.aborted || number < this.#answered || this.#state.kind === "none") {
      return;
    }
    this.#answered = number;
    const { box, halvings, action } = this.#state;
    this.#state = { box, halvings, action, ...planned(found) };
    this.#changed();
  }

  template(drawing: boolean): TemplateResult | typeof nothing {
    const [context, state] = [this.#context, this.#state];
    if (!context) {
      return nothing;
    }
    return html`
      <div class="row">
        <button class="primary" aria-pressed=${drawing} @click=${this.#draw}>
          ${drawing ? "Drag on the map, or press Escape" : this.box ? "Draw another box" : "Draw a box"}
        </button>
        ${this.box ? html`<button @click=${() => this.take(null)}>Clear</button>` : nothing}
      </div>
      ${coordinateForm(context.crs, this.box, (box) => this.take(box))}
      ${state.kind === "none" ? nothing : this.#cellSize(context.collection, state.halvings)}
      <div aria-live="polite">${planText(state)}</div>
      ${state.kind === "planned" ? this.#planned(state.region, state.action) : nothing}
    `;
  }

  #cellSize(collection: Collection, halvings: number): TemplateResult | typeof nothing {
    if (collection.levels === 1 || !isKnown(collection.crs)) {
      return nothing;
    }
    const metres = collection.crs !== "EPSG:4326";
    const choose = ({ target }: Event) => this.#restart({ halvings: Number((target as HTMLSelectElement).value) });
    return html`<label class="field"
      >Cell size
      <select @change=${choose}>
        ${Array.from(
          { length: collection.levels },
          (_, level) =>
            html`<option value=${level} .selected=${live(level === halvings)}>
              ${cell(collection.resolution * 2 ** level, metres)}${level ? ` (level ${level})` : ", full resolution"}
            </option>`,
        )}
      </select></label
    >`;
  }

  /** The plan in figures, what can be done with it, and lines for programs. */
  #planned(region: Region, action: Action): TemplateResult {
    const { absent } = region.plan.chunks;
    const job = absent ? this.#jobs.of(region) : null;
    const running = action.kind === "running";
    return html`
      ${figures(region)}
      <div class="row">
        <button ?disabled=${running} @click=${() => this.#save(region, "tif", "GeoTIFF")}>Download GeoTIFF</button>
        <button ?disabled=${running} @click=${() => this.#save(region, "nc", "NetCDF")}>Download NetCDF</button>
        <button
          ?disabled=${running || absent === 0 || job?.over === false}
          @click=${() => this.#run("Starting…", (signal) => this.#jobs.seed(region, signal))}
          title="Have what is absent fetched ahead, without downloading it"
        >
          ${absent ? `Fetch ahead (${counted(absent, "chunk")})` : "All fetched"}
        </button>
      </div>
      <div aria-live="polite">${this.#progress(action, job)}</div>
      ${copyable("curl", curlLine(this.#daemon, region))}
      ${region.request.collection.crs ? copyable("Python", pythonLines(this.#daemon, region)) : nothing}
    `;
  }

  /** How far a download or job is, or why it failed. */
  #progress(action: Action, job: ReturnType<Jobs["of"]>): TemplateResult | typeof nothing {
    switch (action.kind) {
      case "running":
        return html`<div class="doing">
          <p class="busy">${action.text}</p>
          <button @click=${() => this.#cancel()}>Cancel</button>
        </div>`;
      case "failed":
        return html`<p class="problem">${action.problem.text}</p>`;
      case "idle":
        return job ? html`<p class=${job.over ? "problem" : "busy"}>${sentence(job.text)}</p>` : nothing;
    }
  }

  #save(region: Region, suffix: string, format: string): void {
    const name = `${region.request.collection.id}.${suffix}`;
    const onProgress = (received: number, total: number) => {
      const text = `Downloading ${format}: ${bytes(received)}${total ? ` of ${bytes(total)}` : ""}`;
      this.#act({ kind: "running", text });
    };
    const text = region.plan.chunks.absent ? "Fetching what is absent…" : "Preparing…";
    const url = fileUrl(this.#daemon, region, suffix);
    void this.#run(text, (signal) => download(this.#daemon, url, name, onProgress, signal));
  }

  /** Do something that takes a while: show its progress and its failure, and look at the plan again. */
  async #run(text: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal } = this.#abort;
    this.#act({ kind: "running", text });
    const problem = await work(signal).then(() => null, asProblem);
    if (!signal.aborted) {
      this.#act(problem ? { kind: "failed", problem } : IDLE);
      await this.plan();
    }
  }
}

/** What an answer to the question for a plan means. */
function planned(
  found: Region | Problem | null,
): { kind: "outside" } | { kind: "refused"; problem: Problem } | { kind: "planned"; region: Region } {
  if (found === null) {
    return { kind: "outside" };
  }
  return found instanceof Problem ? { kind: "refused", problem: found } : { kind: "planned", region: found };
}

/** Why there is no plan. */
function planText(state: RegionState): TemplateResult | typeof nothing {
  switch (state.kind) {
    case "planning":
      return html`<p>Planning…</p>`;
    case "outside":
      return html`<p>The box lies outside the collection.</p>`;
    case "refused":
      return html`<p class="problem">${state.problem.text}</p>`;
    case "none":
    case "planned":
      return nothing;
  }
}

function figures({ plan }: Region): TemplateResult {
  const { chunks, estimated_source_bytes: cost, output_bytes: size } = plan;
  return html`<dl class="figures long" aria-label="Plan">
    <div><dt>Chunks needed</dt><dd data-figure="needed">${count(chunks.needed)}</dd></div>
    <div><dt>Kept here already</dt><dd data-figure="present">${count(chunks.present)}</dd></div>
    <div><dt>of them void</dt><dd data-figure="void">${count(chunks.void)}</dd></div>
    <div><dt>To fetch</dt><dd data-figure="absent">${count(chunks.absent)}</dd></div>
    <div><dt>To ask of the source, at most</dt><dd data-figure="cost">${bytes(cost)}</dd></div>
    <div><dt>Pixels, uncompressed</dt><dd data-figure="size">${bytes(size)}</dd></div>
  </dl>`;
}
