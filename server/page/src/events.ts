import type { Daemon } from "./daemon";
import { isAbort, Problem } from "./problem";

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
const LONGEST_PAUSE = 10_000;
/** The daemon sends a comment at least this often, with time to spare (milliseconds). */
const SILENCE = 45_000;

/**
 * Read a stream of events until the signal, and connect again whenever it breaks off.
 *
 * A hidden page lets go of its streams: a browser has six connections to a host, for all tabs together.
 */
export async function listen(daemon: Daemon, url: string, listener: Listener, signal: AbortSignal): Promise<void> {
  let pause = FIRST_PAUSE;
  while (!signal.aborted) {
    await visible(signal);
    let refused = false;
    try {
      await readWhileVisible(daemon, url, signal, (event) => {
        pause = FIRST_PAUSE;
        listener.onConnected?.(true);
        listener.onEvent(event);
      });
    } catch (error) {
      if (signal.aborted) {
        return;
      }
      if (!isAbort(error) && listener.onRefused?.(error) === false) {
        return;
      }
      refused = error instanceof Problem && error.status > 0;
    }
    if (signal.aborted) {
      return;
    }
    if (!document.hidden) {
      listener.onConnected?.(refused);
      await sleep(pause, signal);
      pause = Math.min(pause * 2, LONGEST_PAUSE);
    }
  }
}

/** Read one connection to its end, to 45 seconds of silence, or until the page is hidden. */
async function readWhileVisible(
  daemon: Daemon,
  url: string,
  signal: AbortSignal,
  onEvent: (event: Event) => void,
): Promise<void> {
  const own = new AbortController();
  const end = () => own.abort();
  const hide = () => document.hidden && own.abort();
  let watchdog = setTimeout(end, SILENCE);
  signal.addEventListener("abort", end);
  document.addEventListener("visibilitychange", hide);
  try {
    const response = await daemon.fetch(url, {
      signal: own.signal,
      headers: { Accept: "text/event-stream" },
      cache: "no-store",
    });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader?.read(); part && !part.done; part = await reader?.read()) {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENCE);
      const blocks = (text + part.value).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop() ?? "";
      blocks.map(parse).forEach((event) => event && onEvent(event));
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
