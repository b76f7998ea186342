import type { Daemon } from "./daemon";
import { asProblem, isAbort, unreachable } from "./problem";

/** One server-sent event. */
export interface Event {
  name: string;
  data: string;
}

export interface Listener {
  onEvent(event: Event): void;
  /** The daemon answers, or it is gone and being tried again. */
  onConnected?(connected: boolean): void;
  /** The daemon refused; true to try again later. */
  onRefused?(error: unknown): boolean;
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 5000;
/** The daemon sends a comment at least this often, with time to spare (milliseconds). */
const SILENCE = 45_000;
/** Streams of all windows together: a browser has six connections to a host, and tiles need some. */
const STREAM_SLOTS = 4;

/**
 * Follow a document until the signal: by its stream of events, opened again whenever it breaks off.
 *
 * Where other windows have taken the slots for streams, the document is requested now and then. A hidden page asks for
 * nothing.
 *
 * @param url of the document, which is reported as an event of its name; its stream is at /events below it.
 */
export async function listen(daemon: Daemon, url: string, listener: Listener, signal: AbortSignal): Promise<void> {
  const [, name = ""] = /([^/?]+)(\?|$)/.exec(url) ?? [];
  let pause = FIRST_PAUSE;
  let known = "";
  const take = (event: Event) => {
    listener.onConnected?.(true);
    listener.onEvent(event);
  };
  const stream = async () => {
    let text = "";
    for await (const part of textOf(daemon, url.replace(/(?=\?|$)/, "/events"), signal)) {
      const blocks = (text + part).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop() ?? "";
      [pause, known] = [FIRST_PAUSE, ""];
      blocks.map(parse).forEach((event) => event && take(event));
    }
  };
  const ask = async () => {
    let data = "";
    for await (const part of textOf(daemon, url, signal)) {
      data += part;
    }
    if (data !== known) {
      take({ name, data: (known = data) });
    }
  };
  while (!signal.aborted) {
    await visible(signal);
    let answers = false;
    try {
      if (!(await inSlot(stream))) {
        await ask();
        answers = true;
      }
    } catch (error) {
      if (!isAbort(error) && listener.onRefused?.(error) === false) {
        return;
      }
      answers = !isAbort(error) && asProblem(error).kind !== "unreachable";
    }
    if (!signal.aborted && !document.hidden) {
      listener.onConnected?.(answers);
      await sleep(pause, signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
}

/** Stream in one of the slots that all windows share; false where none is free. */
async function inSlot(stream: () => Promise<void>): Promise<boolean> {
  // Browsers have locks on pages of this machine and of https alone.
  if (!navigator.locks) {
    await stream();
    return true;
  }
  const use = async (lock: Lock | null) => {
    if (lock) {
      await stream();
    }
    return lock !== null;
  };
  for (let slot = 0; slot < STREAM_SLOTS; slot += 1) {
    if (await navigator.locks.request(`icehouse stream ${slot}`, { ifAvailable: true }, use)) {
      return true;
    }
  }
  return false;
}

/** An answer's text as it comes, to its end, to 45 seconds of silence, or until the page is hidden. */
async function* textOf(daemon: Daemon, url: string, signal: AbortSignal): AsyncGenerator<string> {
  if (signal.aborted || document.hidden) {
    return;
  }
  const own = new AbortController();
  const end = () => own.abort();
  const hide = () => document.hidden && own.abort();
  let watchdog = setTimeout(end, SILENCE);
  signal.addEventListener("abort", end);
  document.addEventListener("visibilitychange", hide);
  try {
    const response = await daemon.fetch(url, { signal: own.signal, cache: "no-store" });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    const next = () => reader?.read().catch(unreachable);
    for (let part = await next(); part && !part.done; part = await next()) {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENCE);
      yield part.value;
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", end);
    document.removeEventListener("visibilitychange", hide);
    own.abort();
  }
}

/** One block of lines; null for a comment. */
function parse(block: string): Event | null {
  const event = { name: "message", data: "" };
  const data: string[] = [];
  for (const line of block.split("\n")) {
    const [, field, value] = /^([a-z]+): ?(.*)$/.exec(line) ?? [];
    if (field === "event") {
      event.name = value ?? "";
    } else if (field === "data") {
      data.push(value ?? "");
    }
  }
  return data.length ? { ...event, data: data.join("\n") } : null;
}

function visible(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (!document.hidden || signal.aborted) {
      resolve();
      return;
    }
    const go = () => {
      if (!document.hidden || signal.aborted) {
        document.removeEventListener("visibilitychange", go);
        signal.removeEventListener("abort", go);
        resolve();
      }
    };
    document.addEventListener("visibilitychange", go);
    signal.addEventListener("abort", go);
  });
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
