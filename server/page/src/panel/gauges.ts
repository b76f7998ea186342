import { type TemplateResult, html, nothing } from "lit-html";

import { sentence } from "../daemon/problem";
import type { Failure, QueuedBlock, Status } from "../daemon/status";
import { bytes, count, counted, moment } from "../format";

const BLOCKS = 4;
const FAILURES = 5;

/** What the daemon is doing, in one line. */
export function summary(status: Status | null, connected: boolean): string {
  if (!connected) {
    return "Connection lost";
  }
  if (!status) {
    return "…";
  }
  const { chunks_in_flight: inFlight, bytes_per_second: rate, queued } = status.downloads;
  const fetching = inFlight + queued > 0;
  const aside = status.reasons.filter(({ code }) => code === "collection-set-aside").length;
  return [
    fetching ? `Fetching ${counted(inFlight, "chunk")}, ${bytes(rate)}/s` : status.ready ? "Idle" : "",
    aside ? `${counted(aside, "collection")} set aside` : "",
    aside < status.reasons.length ? "Not ready" : "",
  ]
    .filter(Boolean)
    .join("; ");
}

/** The daemon's queue, limits, hits and failures. */
export function gauges(status: Status): TemplateResult {
  const { downloads, disk, memory, hits } = status;
  return html`
    ${status.reasons.map(({ collection, detail }) => problemLine(collection, detail))}
    ${status.collections.flatMap(({ id, degraded }) => degraded.map(({ detail }) => problemLine(id, detail)))}
    ${queue(downloads)}
    <h3>Limits</h3>
    ${onDisk(disk)}
    ${meter("Decoded chunks in memory", memory.decoded_bytes, memory.decoded_limit)}
    ${meter("Answers in memory", memory.answer_bytes, memory.answer_limit)}
    <p class="hint">Chunks used lately are held unpacked, and answers while they are made and sent.</p>
    <h3>Hits</h3>
    ${hits.ratio === null
      ? html`<p class="hint">Nothing has been asked for since the daemon started.</p>`
      : html`<p>
          <strong class="figure" data-figure="hits">${Math.floor(hits.ratio * 100)} %</strong> of
          ${counted(hits.chunks_asked, "chunk")} asked for since the start were here already.
        </p>`}
    ${failures(downloads.failures)}
  `;
}

function problemLine(collection: string | null | undefined, detail: string): TemplateResult {
  return html`<p class="problem">
    ${collection ? html`<strong>${collection}:</strong> ` : nothing}${sentence(detail)}
  </p>`;
}

function queue(downloads: Status["downloads"]): TemplateResult {
  const { queued, running, blocks } = downloads;
  const rest = queued + running - Math.min(blocks.length, BLOCKS);
  return html`<h3>Queue</h3>
    <dl class="figures">
      <div><dt>Running</dt><dd data-figure="running">${counted(running, "block")}</dd></div>
      <div><dt>Waiting</dt><dd data-figure="queued">${counted(queued, "block")}</dd></div>
      <div><dt>Speed</dt><dd>${downloads.blocks_per_second.toFixed(1)} blocks/s</dd></div>
      <div><dt>Traffic</dt><dd>${bytes(downloads.bytes_per_second)}/s</dd></div>
      <div><dt>Fetched</dt><dd data-figure="fetched">${counted(downloads.chunks_fetched, "chunk")}</dd></div>
      <div><dt>Failed</dt><dd data-figure="failed">${counted(downloads.chunks_failed, "chunk")}</dd></div>
    </dl>
    <p class="hint">A block is some neighbouring chunks, fetched as one.</p>
    ${blocks.length
      ? html`<ul class="blocks">
          ${blocks.slice(0, BLOCKS).map(block)} ${rest > 0 ? html`<li>and ${count(rest)} more</li>` : nothing}
        </ul>`
      : nothing}`;
}

function block({ collection, bands, level, row, col, chunks, state, seconds }: QueuedBlock): TemplateResult {
  return html`<li>
    <span class=${`dot ${state}`}></span>${state === "running" ? "Fetching" : "Waiting"}: ${collection}
    ${bands.join(", ")}, level ${level}, row ${row}, column ${col} (${counted(chunks, "chunk")},
    ${seconds.toFixed(0)} s)
  </li>`;
}

/** The cache against its limit; where none is set, against what the disk has left. */
function onDisk({ cache_bytes: used, cache_limit: limit, free_bytes: free, floor_bytes: floor }: Status["disk"]): TemplateResult {
  if (limit !== null) {
    return meter("Cache on disk", used, limit);
  }
  const left = Math.max(0, (free ?? 0) - floor);
  return meter("Cache on disk", used, used + left, `${bytes(used)}; the disk has ${bytes(left)} more`);
}

/** A bar with its figures as text: never the bar alone. */
function meter(
  name: string,
  used: number,
  limit: number,
  text = `${bytes(used)} of ${bytes(limit)}`,
): TemplateResult {
  const part = limit > 0 ? used / limit : 0;
  return html`<div class="meter">
    <span>${name}</span>
    <span data-figure=${name}>${text}</span>
    <meter min="0" max="1" high="0.9" value=${Math.min(1, part)} aria-label=${name}></meter>
  </div>`;
}

/** The latest of each kind of failure, and how many of the last ones were the same. */
function failures(list: Failure[]): TemplateResult | typeof nothing {
  if (!list.length) {
    return nothing;
  }
  const alike = new Map<string, Failure[]>();
  for (const failure of list) {
    const kind = `${failure.collection} ${failure.detail}`;
    alike.set(kind, [...(alike.get(kind) ?? []), failure]);
  }
  return html`<h3>Recent failures</h3>
    <ul class="failures">
      ${[...alike.values()].slice(0, FAILURES).map((found) => {
        const { at, collection, chunk, detail } = found.reduce((a, b) => (a.at < b.at ? b : a));
        return html`<li>
          <p>${sentence(detail)}</p>
          <small>
            ${collection}: ${counted(found.length, "chunk")}, last ${chunk},
            <time datetime=${at}>${moment(at)}</time>
          </small>
        </li>`;
      })}
    </ul>`;
}
