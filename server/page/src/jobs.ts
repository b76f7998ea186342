import { type TemplateResult, html, nothing } from "lit-html";

import type { Daemon } from "./daemon";
import { count, counted } from "./figures";
import { asProblem, unreachable } from "./problem";
import type { Region } from "./plan";
import type { RunningJob } from "./status";

interface Document {
  jobID: string;
  processID: string;
  status: string;
  message: string;
  progress: number;
  collection: string | null;
}

/** A job that was started here, and the address that started it. */
interface Own extends Document {
  asked: string;
}

/** What jobs do, for people. */
const TITLES: Record<string, string> = {
  seed: "Fetch ahead",
  refresh: "Fetch again",
  truncate: "Delete",
  gc: "Clean up",
};
const OVER = ["successful", "failed", "dismissed"];
const NOT_FOUND = 404;
/** Ended jobs of ours that stay listed. */
const KEPT = 5;

/** Jobs under way, whoever started them, and how those started here ended. */
export class Jobs {
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #running: RunningJob[] = [];
  #own: Own[] = [];
  #problem = "";

  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Take over what the status says: jobs of ours that are missing there are over. */
  update(running: RunningJob[]): void {
    this.#running = running;
    const missing = this.#own.filter(
      ({ jobID, status }) => !OVER.includes(status) && !running.some(({ id }) => id === jobID),
    );
    for (const { jobID } of missing) {
      void this.#ask(jobID);
    }
  }

  /** Have what is absent of a region fetched ahead. */
  async seed(region: Region, signal: AbortSignal): Promise<void> {
    const asked = this.#seedUrl(region);
    const response = await this.#daemon.fetch(asked, { method: "POST", signal });
    const job = (await response.json().catch(unreachable)) as Document;
    this.#own = [{ ...job, asked }, ...this.#own].slice(0, KEPT);
    this.#changed();
  }

  /** How the latest job of ours that fetches a region goes, in words; null where none does, or did to its end. */
  of(region: Region): { over: boolean; words: string } | null {
    const asked = this.#seedUrl(region);
    const job = this.#own.find((one) => one.asked === asked);
    if (!job || OVER.includes(job.status)) {
      return job?.status === "failed" ? { over: true, words: `Fetching ahead failed: ${job.message}` } : null;
    }
    const running = this.#running.find(({ id }) => id === job.jobID);
    return { over: false, words: `Fetching ahead: ${running?.chunks_total ? progress(running) : "starting"}` };
  }

  #seedUrl({ wish, query, plan }: Region): string {
    const { width: _, height: __, ...region } = query;
    return this.#daemon.url(`collections/${wish.collection.id}/seed`, { ...region, level: plan.level });
  }

  async #ask(id: string): Promise<void> {
    const found = await this.#daemon.json<Document>(`jobs/${id}`).catch((error: unknown) => {
      const gone = asProblem(error).status === NOT_FOUND;
      return gone ? { status: "failed", message: "the daemon does not know it any more. Was it restarted?" } : null;
    });
    this.#learn(id, found);
  }

  async #cancel(id: string): Promise<void> {
    this.#problem = "";
    const found = await this.#daemon
      .json<Document>(`jobs/${id}`, {}, { method: "DELETE" })
      .catch((error: unknown) => void (this.#problem = asProblem(error).words));
    this.#learn(id, found ?? null);
  }

  /** Take over how a job of ours stands, unless it is known how it has ended. */
  #learn(id: string, found: Partial<Document> | null): void {
    const learns = ({ jobID, status }: Own) => jobID === id && !OVER.includes(status);
    this.#own = this.#own.map((one) => (learns(one) ? { ...one, ...found } : one));
    this.#changed();
  }

  template(): TemplateResult | typeof nothing {
    const ended = this.#own.filter(({ status }) => OVER.includes(status));
    if (!this.#running.length && !ended.length) {
      return nothing;
    }
    return html`<h3>Jobs</h3>
      <ul class="jobs">
        ${this.#running.map((job) => this.#row(job))} ${ended.map(past)}
      </ul>
      ${this.#problem ? html`<p class="problem" role="alert">${this.#problem}</p>` : nothing}`;
  }

  #row(job: RunningJob): TemplateResult {
    const name = title(job.kind, job.collection);
    return html`<li>
      <div>
        <strong>${name}</strong>
        <span>${progress(job)}</span>
        <progress max="100" value=${job.progress} aria-label=${`Progress of ${name}`}></progress>
      </div>
      <button @click=${() => this.#cancel(job.id)} aria-label=${`Cancel ${name}, ${counted(job.chunks_total, "chunk")}`}>
        Cancel
      </button>
    </li>`;
  }
}

function title(kind: string, collection: string | null): string {
  return `${TITLES[kind] ?? kind} ${collection ?? ""}`.trim();
}

function progress({ chunks_done, chunks_total }: RunningJob): string {
  return `${count(chunks_done)} of ${counted(chunks_total, "chunk")}`;
}

function past({ processID, collection, status, message }: Document): TemplateResult {
  const words: Record<string, string> = { successful: "done", failed: "failed", dismissed: "cancelled" };
  return html`<li class=${status === "failed" ? "problem" : ""}>
    <div><strong>${title(processID, collection)}</strong> <span>${words[status]}: ${message}</span></div>
  </li>`;
}
