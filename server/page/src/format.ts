const whole = new Intl.NumberFormat("en");
const precise = new Intl.NumberFormat("en", { maximumFractionDigits: 3 });

/** A count, such as 12,345. */
export function count(number: number): string {
  return whole.format(Math.round(number));
}

/** A count with its word: "1 chunk", "2 chunks". */
export function counted(number: number, word: string): string {
  return `${count(number)} ${word}${number === 1 ? "" : "s"}`;
}

/** A value of a band, to a thousandth. */
export function value(number: number): string {
  return precise.format(number);
}

/** Bytes in the largest decimal unit that leaves a number above one. */
export function bytes(number: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB", "PB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, number)) / 3)));
  const scaled = number / 1000 ** power;
  const digits = power === 0 || scaled >= 100 ? 0 : 1;
  return `${scaled.toFixed(digits)} ${units[power]}`;
}

/** A length or an angle of a cell, with no more digits than it has. */
export function cell(size: number, metres: boolean): string {
  return metres ? `${precise.format(size)} m` : `${Number(size.toPrecision(4))}°`;
}

/** Degrees north and east as text, to a metre: 65.25000° N, 150.50000° E. */
export function degrees(lon: number, lat: number): string {
  const part = (angle: number, names: [string, string]) =>
    `${Math.abs(angle).toFixed(5)}° ${angle < 0 ? names[1] : names[0]}`;
  return `${part(lat, ["N", "S"])}, ${part(lon, ["E", "W"])}`;
}

/** A moment of today by its time, another by its date as well. */
export function moment(text: string): string {
  const at = new Date(text);
  const today = at.toDateString() === new Date().toDateString();
  return today ? at.toLocaleTimeString() : at.toLocaleString();
}

/** When a time step starts: its day, and its time where that is not midnight (UTC). */
export function stepName(start: string): string {
  const [day, time] = [start.slice(0, 10), start.slice(11, 16)];
  return time === "" || time === "00:00" ? day : `${day} ${time} UTC`;
}
