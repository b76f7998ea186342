/** The colours that are drawn on the map, by theme; those of the page are in styles/. */
export interface Palette {
  sea: string;
  land: string;
  coast: string;
  graticule: string;
  label: string;
  halo: string;
  present: string;
  void: string;
  inFlight: string;
  failed: string;
  box: string;
}

const LIGHT: Palette = {
  sea: "#e3edf3",
  land: "#f6f5f0",
  coast: "#8ea3b0",
  graticule: "#b9cad5",
  label: "#5a7180",
  halo: "#ffffffcc",
  present: "#005f99",
  void: "#5b6b75",
  inFlight: "#a85a00",
  failed: "#b3123c",
  box: "#7a1fa2",
};

const DARK: Palette = {
  sea: "#0b151c",
  land: "#1a262e",
  coast: "#4d6372",
  graticule: "#243642",
  label: "#8aa1b0",
  halo: "#0b151ccc",
  present: "#5cc4f5",
  void: "#a9b8c2",
  inFlight: "#ffb454",
  failed: "#ff7b93",
  box: "#dca6ff",
};

/** The palette of the theme in force. */
export function palette(dark: boolean): Palette {
  return dark ? DARK : LIGHT;
}
