import { type TemplateResult, html, nothing } from "lit-html";

import { type Collection, firstSentence } from "../daemon/collection";
import type { Status } from "../daemon/status";
import { counted } from "../format";
import { formatView, viewOf } from "../view";

/** Above this number of collections there is a search field. */
const MANY = 6;

/** The list of collections, and the description of the chosen one. */
export class Catalogue {
  readonly #changed: () => void;
  #sought = "";

  constructor(changed: () => void) {
    this.#changed = changed;
  }

  template(collections: Collection[], chosen: Collection | null, status: Status | null): TemplateResult {
    const words = this.#sought.toLowerCase().split(/\s+/);
    const found = collections.filter(({ id, title }) =>
      words.every((word) => `${id} ${title}`.toLowerCase().includes(word)),
    );
    return html`
      ${collections.length > MANY ? this.#search() : nothing}
      <ul class="collections">
        ${found.map((one) => this.#entry(one, one.id === chosen?.id, status))}
      </ul>
      ${found.length ? nothing : html`<p>No collection has that name.</p>`} ${chosen ? about(chosen) : nothing}
    `;
  }

  #search(): TemplateResult {
    const seek = (event: Event) => {
      this.#sought = (event.target as HTMLInputElement).value;
      this.#changed();
    };
    return html`<label class="field"
      >Search <input type="search" .value=${this.#sought} @input=${seek} autocomplete="off"
    /></label>`;
  }

  #entry({ id, title }: Collection, chosen: boolean, status: Status | null): TemplateResult {
    const chunks = status?.collections.find((one) => one.id === id)?.chunks;
    const cached = chunks === undefined ? "" : chunks ? `${counted(chunks, "chunk")} here` : "nothing here yet";
    return html`<li>
      <a href=${formatView(viewOf(id))} aria-current=${chosen ? "true" : nothing}>
        <strong>${title}</strong><span><code>${id}</code> <span data-figure="chunks">${cached}</span></span>
      </a>
    </li>`;
  }
}

function about({ title, description, attribution, license: named, links }: Collection): TemplateResult {
  const license = named === "other" ? "" : named;
  const summary = firstSentence(description);
  return html`<div class="about">
    ${summary === title ? nothing : html`<p>${summary}</p>`}
    <p class="hint">
      ${license ? attribution.replace(/\.?$/, attribution && ". ") : attribution}${license ? `Licence: ${license}.` : ""}
      ${links.map(({ title, href }, index) => html`${index ? " · " : " "}<a href=${href} rel="external noreferrer">${title}</a>`)}
    </p>
  </div>`;
}
