import "ol/ol.css";
import "./base.css";
import "./controls.css";
import "./map.css";
import "./panel.css";
import "./frame.css";

import { Page } from "./page";

new Page().start();
