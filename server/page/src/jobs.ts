import { type TemplateResult, html, nothing } from "lit-html";

import type { Daemon } from "./daemon";
import { count, counted } from "./figures";
import { asProblem } from "./problem";
import type { Region } from "./plan";
import type { RunningJob } from "./status";

interface Document {
  jobID: string;
  processID: string;
  status: string;
  message: string;
  progress: number;
  collection: string | null;
  chunks: { total: number; present: number; fetched: number; failed: number; dropped: number };
}

const OVER = ["successful", "failed", "dismissed"];
/** Ended jobs of ours that stay listed. */
const KEPT = 5;

/** Jobs under way, whoever started them, and how those started here ended. */
export class Jobs {
  readonly #daemon: Daemon;
  readonly #changed: () => void;
  #running: RunningJob[] = [];
  #own: Document[] = [];
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
    for (const job of missing) {
      void this.#ask(job);
    }
  }

  /** Have what is absent of a region fetched ahead. */
  async seed({ wish, query, plan }: Region): Promise<void> {
    const { width: _, height: __, ...region } = query;
    const url = this.#daemon.url(`collections/${wish.collection.id}/seed`, { ...region, level: plan.level });
    const response = await this.#daemon.fetch(url, { method: "POST" });
    this.#own = [(await response.json()) as Document, ...this.#own].slice(0, KEPT);
    this.#changed();
  }

  async #ask(job: Document): Promise<void> {
    const found = await this.#daemon.json<Document>(`jobs/${job.jobID}`).catch(() => null);
    if (found) {
      this.#own = this.#own.map((one) => (one.jobID === found.jobID ? found : one));
      this.#changed();
    }
  }

  async #cancel(id: string): Promise<void> {
    this.#problem = "";
    await this.#daemon
      .fetch(this.#daemon.url(`jobs/${id}`), { method: "DELETE" })
      .catch((error: unknown) => (this.#problem = asProblem(error).words));
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

  #row({ id, kind, collection, progress, chunks_done, chunks_total }: RunningJob): TemplateResult {
    const name = `${kind} ${collection ?? ""}`.trim();
    return html`<li>
      <div>
        <strong>${name}</strong>
        <span>${count(chunks_done)} of ${counted(chunks_total, "chunk")}</span>
        <progress max="100" value=${progress} aria-label=${`Progress of ${name}`}></progress>
      </div>
      <button @click=${() => this.#cancel(id)} aria-label=${`Cancel ${name}, ${counted(chunks_total, "chunk")}`}>Cancel</button>
    </li>`;
  }
}

function past({ processID, collection, status, message }: Document): TemplateResult {
  const words: Record<string, string> = { successful: "done", failed: "failed", dismissed: "cancelled" };
  return html`<li class=${status === "failed" ? "problem" : ""}>
    <div><strong>${processID} ${collection ?? ""}</strong> <span>${words[status]}: ${message}</span></div>
  </li>`;
}
