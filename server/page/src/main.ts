import "ol/ol.css";
import "./style.css";

import { Page } from "./page";

new Page().start();
