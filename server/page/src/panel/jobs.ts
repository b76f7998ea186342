import { type TemplateResult, html, nothing } from "lit-html";

import type { Daemon } from "../daemon/daemon";
import { asProblem, unreachable } from "../daemon/problem";
import type { Region } from "../daemon/regionPlan";
import type { RunningJob } from "../daemon/status";
import { count, counted } from "../format";

interface Document {
  jobID: string;
  processID: string;
  status: string;
  message: string;
  progress: number;
  collection: string | null;
}

/** A job that this page started, and the URL that started it. */
interface OwnJob extends Document {
  asked: string;
}

/** Titles of the kinds of jobs. */
const TITLES: Record<string, string> = {
  seed: "Fetch ahead",
  refresh: "Fetch again",
  truncate: "Delete",
  gc: "Clean up",
};
const OVER = ["successful", "failed", "dismissed"];
const NOT_FOUND = 404;
/** Jobs of this page that stay listed. */
const KEPT = 5;

/** Running jobs, whichever client started them, and how those that this page started ended. */
export class Jobs {
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #running: RunningJob[] = [];
  #own: OwnJob[] = [];
  #problem = "";

  constructor(daemon: Daemon, changed: () => void) {
    this.#daemon = daemon;
    this.#changed = changed;
  }

  /** Take over the running jobs of the status: jobs of this page that it no longer lists are over. */
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

  /** Progress of this page's latest job that fetches a region; null where there is none, or it succeeded. */
  of(region: Region): { over: boolean; text: string } | null {
    const asked = this.#seedUrl(region);
    const job = this.#own.find((one) => one.asked === asked);
    if (!job || OVER.includes(job.status)) {
      return job?.status === "failed" ? { over: true, text: `Fetching ahead failed: ${job.message}` } : null;
    }
    const running = this.#running.find(({ id }) => id === job.jobID);
    return { over: false, text: `Fetching ahead: ${running?.chunks_total ? progress(running) : "starting"}` };
  }

  #seedUrl({ request, query, plan }: Region): string {
    const { width: _, height: __, ...region } = query;
    return this.#daemon.url(`collections/${request.collection.id}/seed`, { ...region, level: plan.level });
  }

  async #ask(id: string): Promise<void> {
    const found = await this.#daemon.json<Document>(`jobs/${id}`).catch((error: unknown) => {
      const gone = asProblem(error).status === NOT_FOUND;
      return gone ? { status: "failed", message: "the daemon does not know it any more. Was it restarted?" } : null;
    });
    this.#updateOwn(id, found);
  }

  async #cancel(id: string): Promise<void> {
    this.#problem = "";
    const found = await this.#daemon
      .json<Document>(`jobs/${id}`, {}, { method: "DELETE" })
      .catch((error: unknown) => void (this.#problem = asProblem(error).text));
    this.#updateOwn(id, found ?? null);
  }

  /** Update a job of this page, unless it is known to be over. */
  #updateOwn(id: string, found: Partial<Document> | null): void {
    const isCurrent = ({ jobID, status }: OwnJob) => jobID === id && !OVER.includes(status);
    this.#own = this.#own.map((one) => (isCurrent(one) ? { ...one, ...found } : one));
    this.#changed();
  }

  template(): TemplateResult | typeof nothing {
    const ended = this.#own.filter(({ status }) => OVER.includes(status));
    if (!this.#running.length && !ended.length) {
      return nothing;
    }
    return html`<h3>Jobs</h3>
      <ul class="jobs">
        ${this.#running.map((job) => this.#row(job))} ${ended.map(endedJob)}
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

function endedJob({ processID, collection, status, message }: Document): TemplateResult {
  const outcomes: Record<string, string> = { successful: "done", failed: "failed", dismissed: "cancelled" };
  return html`<li class=${status === "failed" ? "problem" : ""}>
    <div><strong>${title(processID, collection)}</strong> <span>${outcomes[status]}: ${message}</span></div>
  </li>`;
}
