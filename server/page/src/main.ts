import "ol/ol.css";
import "./style.css";

import { html, render } from "lit-html";

const main = document.querySelector("main");
if (main) {
  render(html`<h1>Icehouse</h1>`, main);
}
