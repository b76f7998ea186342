/** The daemon's state; see GET /status. */
export interface Status {
  version: string;
  ready: boolean;
  reasons: { code: string; detail: string; collection?: string | null }[];
  collections: {
    id: string;
    title: string;
    chunks: number;
    /** Chunks by level. */
    levels: Record<string, number>;
    bytes: number | null;
    degraded: { code: string; detail: string }[];
  }[];
  downloads: {
    queued: number;
    running: number;
    chunks_in_flight: number;
    chunks_fetched: number;
    chunks_failed: number;
    blocks_per_second: number;
    bytes_per_second: number;
    source_bytes: number;
    blocks: QueuedBlock[];
    failures: Failure[];
  };
  jobs: RunningJob[];
  memory: {
    decoded_bytes: number;
    decoded_limit: number;
    answer_bytes: number;
    answer_limit: number;
    resident_bytes: number | null;
  };
  disk: { cache_bytes: number; cache_limit: number | null; free_bytes: number | null; floor_bytes: number };
  hits: { chunks_asked: number; chunks_cached: number; ratio: number | null };
}

/** A rectangle of neighbouring chunks that is fetched as one. */
export interface QueuedBlock {
  collection: string;
  bands: string[];
  level: number;
  row: number;
  col: number;
  chunks: number;
  state: "queued" | "running";
  seconds: number;
}

export interface Failure {
  at: string;
  collection: string;
  chunk: string;
  kind: string;
  detail: string;
}

/** A job that is not over. */
export interface RunningJob {
  id: string;
  kind: string;
  collection: string | null;
  status: string;
  progress: number;
  chunks_done: number;
  chunks_total: number;
}
