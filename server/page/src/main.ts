import "ol/ol.css";
import "./styles/base.css";
import "./styles/controls.css";
import "./styles/map.css";
import "./styles/panel.css";
import "./styles/frame.css";

import { Page } from "./page";

new Page().start();
