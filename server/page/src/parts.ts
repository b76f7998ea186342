import { type TemplateResult, html, nothing } from "lit-html";

import { counted } from "./figures";
import { gauges, summary } from "./gauges";
import { layers } from "./layers";
import type { Page } from "./page";
import { palette } from "./palette";
import type { Problem } from "./problem";

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

/** What stands above everything: what this is, a lost connection, a token to be typed. */
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
          ${page.problem.detail}. ${page.problem.hint}
          <button @click=${() => page.load()}>Try again</button>
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
      Icehouse fetches remote Earth-observation rasters once, keeps them on this machine, and gives any region of
      them to every process here. Move the map: what is absent is fetched as you look. <a href="docs">API pages</a>
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

/** The panel beside the map. */
export function panel(page: Page): TemplateResult {
  const { collection, collections, projection, status, address, legend, inventory, drawnLevel: drawn } = page;
  const colours = palette(page.theme.dark);
  return html`
    <section aria-labelledby="collections-title">
      <h2 id="collections-title">Collections</h2>
      ${collections.length
        ? page.catalogue.template(collections, collection, status)
        : html`<p>${page.problem ? "None could be loaded." : "Loading…"}</p>`}
    </section>
    ${collection && projection
      ? html`<section aria-labelledby="layers-title">
            <h2 id="layers-title">Map</h2>
            ${layers({ collection, projection, view: address.view, drawn, legend, inventory, colours }, (change) =>
              address.go(change),
            )}
          </section>
          <section aria-labelledby="region-title">
            <h2 id="region-title">Region</h2>
            ${page.region.template(page.box.drawing)}
          </section>`
      : nothing}
    <section aria-labelledby="daemon-title">
      <h2 id="daemon-title">Daemon <span class="state">${summary(status, page.connected)}</span></h2>
      ${page.jobs.template()} ${status ? gauges(status) : nothing}
    </section>
  `;
}

/** What lies over the map: how loading goes, and the values at a point. */
export function overlay(page: Page): TemplateResult {
  const { loading, notShown, problems } = page.tiles.report(page.chart.extent, page.chart.tileZoom);
  const zoomIn = page.chart.tileZoom < page.fetchZoom ? () => page.chart.zoomTo(page.fetchZoom) : null;
  return html`
    <div class="chips">
      <div role="status">${loading ? html`<p class="chip loading">${counted(loading, "tile")} loading</p>` : nothing}</div>
      ${notShown
        ? html`<p class="chip">
            <span class="hatch" aria-hidden="true"></span>Hatched: not kept here, and not fetched at this scale.
            ${zoomIn ? html`<button @click=${zoomIn}>Zoom in to fetch</button>` : nothing}
          </p>`
        : nothing}
      ${problems[0] ? failed(problems[0], problems.length, page) : nothing}
    </div>
    ${page.point.template()}
    <p class="credits">
      ${page.collection?.attribution ? html`${page.collection.attribution} · ` : nothing}Outlines: Natural Earth
    </p>
  `;
}

function failed({ detail, hint }: Problem, count: number, page: Page): TemplateResult {
  return html`<div class="chip problem" role="alert">
    <p><strong>${counted(count, "tile")} failed.</strong> ${detail}. ${hint}</p>
    <button @click=${() => page.tiles.retry()}>Try again</button>
  </div>`;
}
