import { type TemplateResult, html, nothing } from "lit-html";
import { live } from "lit-html/directives/live.js";

import type { Box, Collection } from "./collection";
import { copyable } from "./copyable";
import type { Daemon } from "./daemon";
import { download } from "./download";
import { bytes, cell, count, counted } from "./figures";
import type { Jobs } from "./jobs";
import { curlLine, fileUrl, halvingsFor, isKnown, planOf, pythonLines, type Region } from "./plan";
import { asProblem, Problem, sentence } from "./problem";
import { demandAbove } from "./range";

const EDGES = ["West", "South", "East", "North"] as const;
const EDGES_METRES = ["Left", "Bottom", "Right", "Top"] as const;

/** What the panel needs to know of the map. */
export interface Frame {
  collection: Collection;
  crs: string;
  bands: string[];
  datetime: string;
}

/** The box: what it would cost, and what can be done with it. */
export class RegionPanel {
  readonly #daemon: Daemon;
  readonly #jobs: Jobs;
  readonly #changed: () => void;
  readonly #draw: () => void;
  #frame: Frame | null = null;
  #box: Box | null = null;
  #halvings = 0;
  #region: Region | null = null;
  #outside = false;
  /** Why there is no plan. */
  #problem: Problem | null = null;
  /** Why the last that was done with the box failed. */
  #failure: Problem | null = null;
  #busy = "";
  /** Ends what was asked for this box and these choices. */
  #abort = new AbortController();
  /** Plans asked for so far, and the newest of them that has come. */
  #asked = 0;
  #come = 0;

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

  /** The box, in `crs` of the frame. */
  get box(): Box | null {
    return this.#box;
  }

  /** Another collection, style or map: a box in coordinates that no longer mean the same goes. */
  frame(frame: Frame): void {
    const before = this.#frame;
    this.#frame = frame;
    if (before?.crs !== frame.crs || before.collection.id !== frame.collection.id) {
      this.take(null);
    } else if (this.#box && (before.bands.join() !== frame.bands.join() || before.datetime !== frame.datetime)) {
      this.#ask();
    }
  }

  /** Take a box, and ask for its plan. */
  take(box: Box | null): void {
    this.#box = box;
    this.#halvings = box && this.#frame ? halvingsFor({ ...this.#frame, box, halvings: 0 }) : 0;
    this.#ask();
  }

  /** Ask for another plan: what was said of the one before counts no more. */
  #ask(): void {
    [this.#region, this.#outside, this.#problem, this.#failure] = [null, false, null, null];
    this.#cancel();
  }

  /** End what is under way, and look at the plan again. */
  #cancel(): void {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#busy = "";
    void this.plan();
    this.#changed();
  }

  /** Ask for the plan anew: what is present may have changed. */
  async plan(): Promise<void> {
    if (!this.#frame || !this.#box || this.#busy) {
      return;
    }
    const { signal } = this.#abort;
    const turn = (this.#asked += 1);
    const wish = { ...this.#frame, box: this.#box, halvings: this.#halvings };
    const found = await planOf(this.#daemon, wish, signal).catch((error: unknown) => asProblem(error));
    if (signal.aborted || turn < this.#come) {
      return;
    }
    this.#come = turn;
    const failed = found instanceof Problem;
    [this.#region, this.#outside, this.#problem] = failed ? [null, false, found] : [found, found === null, null];
    this.#changed();
  }

  template(drawing: boolean): TemplateResult | typeof nothing {
    if (!this.#frame) {
      return nothing;
    }
    return html`
      <div class="row">
        <button class="primary" aria-pressed=${drawing} @click=${this.#draw}>
          ${drawing ? "Drag on the map, or press Escape" : this.#box ? "Draw another box" : "Draw a box"}
        </button>
        ${this.#box ? html`<button @click=${() => this.take(null)}>Clear</button>` : nothing}
      </div>
      ${this.#fields(this.#frame)} ${this.#box ? this.#cells(this.#frame) : nothing}
      <div aria-live="polite">${this.#said()}</div>
      ${this.#region ? this.#offer(this.#region) : nothing}
    `;
  }

  #fields({ crs }: Frame): TemplateResult {
    const names = crs === "CRS84" ? EDGES : EDGES_METRES;
    return html`<details class="fields">
      <summary>${this.#box ? "Coordinates of the box" : "Or type its coordinates"}</summary>
      <form @submit=${(event: SubmitEvent) => this.#typed(event)}>
        <p class="hint">${crs === "CRS84" ? "Degrees of longitude and latitude. A box ends at 180." : `Metres in ${crs}.`}</p>
        <div class="edges">
          ${names.map(
            (name, index) => html`<label
              >${name}
              <input name=${name} required inputmode="decimal" autocomplete="off" pattern="-?[0-9]+([.][0-9]+)?"
                .value=${String(this.#box?.[index] ?? "")}
            /></label>`,
          )}
        </div>
        <button @click=${(event: Event) => checkEdges(event, names)}>Plan this box</button>
      </form>
    </details>`;
  }

  #typed(event: SubmitEvent): void {
    event.preventDefault();
    const said = [...new FormData(event.target as HTMLFormElement).values()].map(Number);
    this.take(said as Box);
  }

  #said(): TemplateResult | typeof nothing {
    if (this.#problem) {
      return html`<p class="problem">${this.#problem.words}</p>`;
    }
    if (this.#outside) {
      return html`<p>The box lies outside the collection.</p>`;
    }
    return this.#box && !this.#region ? html`<p>Planning…</p>` : nothing;
  }

  /** How it goes with what is done with the box, or why it failed. */
  #done(job: ReturnType<Jobs["of"]>): TemplateResult | typeof nothing {
    if (this.#busy) {
      return html`<div class="doing">
        <p class="busy">${this.#busy}</p>
        <button @click=${() => this.#cancel()}>Cancel</button>
      </div>`;
    }
    if (this.#failure) {
      return html`<p class="problem">${this.#failure.words}</p>`;
    }
    return job ? html`<p class=${job.over ? "problem" : "busy"}>${sentence(job.words)}</p>` : nothing;
  }

  #offer(region: Region): TemplateResult {
    const { chunks, estimated_source_bytes: cost, output_bytes: size } = region.plan;
    const job = chunks.absent ? this.#jobs.of(region) : null;
    return html`
      <dl class="figures long" aria-label="Plan">
        <div><dt>Chunks needed</dt><dd data-figure="needed">${count(chunks.needed)}</dd></div>
        <div><dt>Kept here already</dt><dd data-figure="present">${count(chunks.present)}</dd></div>
        <div><dt>of them void</dt><dd data-figure="void">${count(chunks.void)}</dd></div>
        <div><dt>To fetch</dt><dd data-figure="absent">${count(chunks.absent)}</dd></div>
        <div><dt>To ask of the source, at most</dt><dd data-figure="cost">${bytes(cost)}</dd></div>
        <div><dt>Pixels, uncompressed</dt><dd data-figure="size">${bytes(size)}</dd></div>
      </dl>
      <div class="row">
        <button ?disabled=${this.#busy !== ""} @click=${() => this.#save(region, "tif", "GeoTIFF")}>
          Download GeoTIFF
        </button>
        <button ?disabled=${this.#busy !== ""} @click=${() => this.#save(region, "nc", "NetCDF")}>
          Download NetCDF
        </button>
        <button
          ?disabled=${this.#busy !== "" || chunks.absent === 0 || job?.over === false}
          @click=${() => this.#run("Starting…", (signal) => this.#jobs.seed(region, signal))}
          title="Have what is absent fetched ahead, without downloading it"
        >
          ${chunks.absent ? `Fetch ahead (${counted(chunks.absent, "chunk")})` : "All fetched"}
        </button>
      </div>
      <div aria-live="polite">${this.#done(job)}</div>
      ${copyable("curl", curlLine(this.#daemon, region))}
      ${region.wish.collection.crs ? copyable("Python", pythonLines(this.#daemon, region)) : nothing}
    `;
  }

  #cells({ collection }: Frame): TemplateResult | typeof nothing {
    if (collection.levels === 1 || !isKnown(collection.crs)) {
      return nothing;
    }
    const metres = collection.crs !== "EPSG:4326";
    const choose = (event: Event) => {
      this.#halvings = Number((event.target as HTMLSelectElement).value);
      this.#ask();
    };
    return html`<label class="field"
      >Cell size
      <select @change=${choose}>
        ${Array.from(
          { length: collection.levels },
          (_, level) =>
            html`<option value=${level} .selected=${live(level === this.#halvings)}>
              ${cell(collection.resolution * 2 ** level, metres)}${level ? ` (level ${level})` : ", full resolution"}
            </option>`,
        )}
      </select></label
    >`;
  }

  #save(region: Region, suffix: string, format: string): void {
    const name = `${region.wish.collection.id}.${suffix}`;
    const told = (received: number, total: number) => {
      this.#busy = `Downloading ${format}: ${bytes(received)}${total ? ` of ${bytes(total)}` : ""}`;
      this.#changed();
    };
    const what = region.plan.chunks.absent ? "Fetching what is absent…" : "Preparing…";
    const url = fileUrl(this.#daemon, region, suffix);
    void this.#run(what, (signal) => download(this.#daemon, url, name, told, signal));
  }

  /** Do something that takes a while: says so, tells what went wrong, and looks at the plan again. */
  async #run(said: string, work: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { signal } = this.#abort;
    [this.#busy, this.#failure] = [said, null];
    this.#changed();
    const failure = await work(signal).then(() => null, asProblem);
    if (signal.aborted) {
      return;
    }
    [this.#busy, this.#failure] = ["", failure];
    this.#changed();
    await this.plan();
  }
}

function checkEdges(event: Event, [left, bottom, right, top]: typeof EDGES | typeof EDGES_METRES): void {
  const [one, two, three, four] = (event.target as HTMLButtonElement).form!.querySelectorAll("input");
  demandAbove(one!, three!, `${right} has to be above ${left.toLowerCase()}`);
  demandAbove(two!, four!, `${top} has to be above ${bottom.toLowerCase()}`);
}
