import { type TemplateResult, html, nothing } from "lit-html";

import type { Style } from "../daemon/collection";
import type { Problem } from "../daemon/problem";
import type { Status } from "../daemon/status";
import { counted } from "../format";
import { palette } from "../map/palette";
import type { Tiles } from "../map/tiles";
import type { Page } from "../page";
import { gauges, summary } from "./gauges";
import { layers } from "./layers";

const DISMISSED = "icehouse-introduced";

/** The right end of the header. */
export function tools({ theme, status }: Page): TemplateResult {
  return html`
    ${status ? html`<span class="version">${status.version}</span>` : nothing}
    <a href="docs">API</a>
    <button class="icon" aria-pressed=${theme.dark} aria-label="Dark colours" @click=${() => theme.toggle()}>
      ${theme.dark ? "☀" : "☾"}
    </button>
  `;
}

/** Notices above everything: the introduction, a lost connection, a request for a token. */
export function notices(page: Page): TemplateResult {
  return html`
    <div role="alert">
      ${page.connected
        ? nothing
        : html`<p class="notice lost"><strong>Connection lost.</strong> Is the daemon running? Trying again…</p>`}
    </div>
    ${page.token.wanted ? tokenField(page) : nothing}
    ${page.problem && page.problem.status !== 401 && page.connected
      ? html`<p class="notice problem" role="alert">
          ${page.problem.text}
          <button @click=${() => page.load()}>Try again</button>
        </p>`
      : nothing}
    ${page.missing
      ? html`<p class="notice" role="alert">
          <span><strong>${page.missing}</strong> is not served here: this is another collection.</span>
        </p>`
      : nothing}
    ${localStorage.getItem(DISMISSED) ? nothing : introduction(page)}
  `;
}

function introduction(page: Page): TemplateResult {
  const dismiss = () => {
    localStorage.setItem(DISMISSED, "yes");
    page.refresh();
  };
  return html`<section class="notice" aria-label="What this is">
    <p>
      Icehouse fetches remote rasters once, keeps them here and serves any region to every process on this machine. Move
      the map: what you look at is fetched. Click for a value; draw a box to download. Programs use the
      <a href="docs">API</a>.
    </p>
    <button class="icon" aria-label="Dismiss the introduction" @click=${dismiss}>×</button>
  </section>`;
}

function tokenField(page: Page): TemplateResult {
  const give = (event: SubmitEvent) => {
    event.preventDefault();
    page.token.give(String(new FormData(event.target as HTMLFormElement).get("token")));
    void page.load();
  };
  return html`<form class="notice" @submit=${give} aria-label="Token">
    <label
      >${page.token.refused ? "That is not the daemon's token." : "This needs the daemon's token."}
      <input name="token" type="password" required autocomplete="off" />
    </label>
    <button class="primary">Use it in this tab</button>
    <button type="button" @click=${() => page.token.putOff()}>Not now</button>
  </form>`;
}

/** The panel next to the map. */
export function panel(page: Page): TemplateResult {
  const { collections, status, address, scene } = page;
  const { shown, legend, inventory, drawnLevel: drawn, region } = scene;
  const colours = palette(page.theme.dark);
  return html`
    <section aria-labelledby="collections-title">
      <h2 id="collections-title">Collections</h2>
      ${collections.length
        ? page.catalogue.template(collections, shown?.collection ?? null, status)
        : html`<p>${page.problem ? "None could be loaded." : status ? "No collection is served." : "Loading…"}</p>`}
    </section>
    ${shown
      ? html`<section aria-labelledby="layers-title">
            <h2 id="layers-title">Layers</h2>
            <div class="row">
              <button @click=${() => scene.overview()}>Whole collection</button>
              <button @click=${() => page.showCached()}>What is kept here</button>
            </div>
            <div aria-live="polite">${scene.nothingCached ? html`<p class="hint">${scene.nothingCached}</p>` : nothing}</div>
            ${layers({ ...shown, view: address.view, drawn, legend, inventory, colours }, (change) => page.go(change))}
          </section>
          <section aria-labelledby="region-title">
            <h2 id="region-title">Region</h2>
            ${region.template(scene.box.drawing)}
          </section>`
      : nothing}
    <section aria-labelledby="daemon-title">
      <h2 id="daemon-title">Daemon <span class="state">${summary(status, page.connected)}</span></h2>
      ${page.jobs.template()} ${status ? gauges(status) : nothing}
    </section>
  `;
}

/** What lies over the map: the progress of loading, and the values at a point. */
export function overlay({ scene, status }: Page): TemplateResult {
  const { chart, shown, tiles, point } = scene;
  const { loading, notShown, problems } = tiles.report(chart.extent, chart.tileZoom);
  const fetchZoom = shown?.picture.fetchZoom ?? 0;
  const zoomIn = chart.tileZoom < fetchZoom ? () => chart.zoomTo(fetchZoom) : null;
  const empty = notShown && zoomIn && isEmpty(status, shown?.collection.id);
  return html`
    ${empty ? beginning(zoomIn) : nothing}
    <div class="chips">
      <div role="status">${loading ? html`<p class="chip loading">${counted(loading, "tile")} loading</p>` : nothing}</div>
      ${notShown && !empty ? hatched(zoomIn) : nothing}
      ${shown && !shown.picture.drawable ? undrawn(shown.style) : nothing}
      ${problems[0] ? failed(problems[0], problems.length, tiles) : nothing}
    </div>
    <div class="corner">
      ${point.template()}
      <p class="credits">
        ${shown?.collection.attribution ? html`${shown.collection.attribution} · ` : nothing}Outlines: Natural Earth
      </p>
    </div>
  `;
}

/** What hatching means, and what to do. */
function hatched(zoomIn: (() => void) | null): TemplateResult {
  return html`<div class="chip">
    <span class="hatch" aria-hidden="true"></span>
    <p>Hatched: not kept here, and not fetched at this scale.${zoomIn ? " Zoom in: tiles are fetched from there on." : ""}</p>
    ${zoomIn ? html`<button @click=${zoomIn}>Zoom in</button>` : nothing}
  </div>`;
}

/** The same, in larger letters and lower down, on a map on which there is nothing else yet. */
function beginning(zoomIn: () => void): TemplateResult {
  return html`<div class="centre">
    <section class="chip" aria-label="Nothing is kept yet">
      <p>
        <strong>Nothing of this collection is kept here yet.</strong>
        <span class="hatch" aria-hidden="true"></span>
        Hatched: not kept here, and not fetched at this scale. Zoom in on a place: tiles are fetched from there on.
      </p>
      <button class="primary" @click=${zoomIn}>Zoom in</button>
    </section>
  </div>`;
}

function isEmpty(status: Status | null, collection: string | undefined): boolean {
  return status?.collections.find(({ id }) => id === collection)?.chunks === 0;
}

/** The style has no range of values: a hint is better than an empty map. */
function undrawn({ bands }: Style): TemplateResult {
  const give = () => document.querySelector<HTMLInputElement>(".range input")?.focus();
  return html`<div class="chip" role="status">
    <p><strong>No picture yet.</strong> Nothing says which values of ${bands.join(", ")} to show.</p>
    <button @click=${give}>Give them</button>
  </div>`;
}

function failed({ text }: Problem, count: number, tiles: Tiles): TemplateResult {
  return html`<div class="chip problem">
    <p><strong>${counted(count, "tile")} failed.</strong> <span role="alert">${text}</span></p>
    <button @click=${() => tiles.retry()}>Try again</button>
  </div>`;
}
