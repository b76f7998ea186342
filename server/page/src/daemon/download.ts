import type { Daemon } from "./daemon";
import { unreachable } from "./problem";

/** Load a file with its progress, and hand it to the browser to save. */
export async function download(
  daemon: Daemon,
  url: string,
  name: string,
  progress: (received: number, total: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const response = await daemon.fetch(url, { signal });
  const total = Number(response.headers.get("Content-Length") ?? 0);
  const reader = response.body?.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let received = 0;
  const next = () => reader?.read().catch(unreachable);
  for (let part = await next(); part && !part.done; part = await next()) {
    parts.push(part.value);
    received += part.value.length;
    progress(received, total);
  }
  const type = response.headers.get("Content-Type") ?? "application/octet-stream";
  save(new Blob(parts, { type }), name);
}

function save(blob: Blob, name: string): void {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  // The browser may still read it for a while.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
