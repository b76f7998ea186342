/** The time steps of a collection, oldest first; none where there is no time axis. */
export interface Steps {
  readonly count: number;
  /** Where the last one ends. */
  readonly end: string;
  /** Whether all start at midnight (UTC). */
  readonly daily: boolean;
  /** When a step starts, by its number from 0, as the daemon writes it. */
  start(number: number): string;
}

/** The time dimension of a collection's document: all starts, or first start, last end and period. */
export interface TimeDimension {
  extent: [string | null, string | null];
  step: string | null;
  values?: string[];
}

const PERIOD = /^P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?$/;

/** Steps that an axis has at most. */
const MOST = 1_000_000;

const MIDNIGHT = "T00:00:00Z";

/** The steps that a time dimension describes. */
export function stepsOf(dimension: TimeDimension | undefined): Steps {
  const [first, end] = dimension?.extent ?? [];
  const period = PERIOD.exec(dimension?.step ?? "");
  if (dimension?.values || !first || !end || !period) {
    const values = dimension?.values ?? [];
    return {
      count: values.length,
      end: end ?? "",
      daily: values.every((start) => start.endsWith(MIDNIGHT)),
      start: (number) => values[number] ?? "",
    };
  }
  const edge = (number: number) => after(new Date(first), period.slice(1), number);
  const last = Date.parse(end);
  return {
    count: firstThat(MOST, (number) => !(edge(number).getTime() < last)),
    end,
    daily: first.endsWith(MIDNIGHT) && !period[0].includes("T"),
    start: (number) => written(edge(number)),
  };
}

/** The number of the step that holds a moment, or of the last before it where there is a gap. */
export function stepAt(steps: Steps, moment: Date): number {
  return Math.max(0, firstThat(steps.count, (number) => Date.parse(steps.start(number)) > moment.getTime()) - 1);
}

/** The start that is asked for, if it is one; else that of the last step. */
export function startOf(steps: Steps, asked: string): string {
  return steps.start(stepAt(steps, new Date(asked))) === asked ? asked : steps.start(steps.count - 1);
}

/** A moment as the daemon writes it. */
export function written(moment: Date): string {
  return moment.toISOString().replace(".000Z", "Z");
}

/** The moment a number of periods after another, by the calendar. */
function after(first: Date, period: readonly (string | undefined)[], times: number): Date {
  const [years = 0, months = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = period.map((part) => Number(part ?? 0));
  const moved = new Date(first);
  moved.setUTCMonth(first.getUTCMonth() + (12 * years + months) * times);
  return new Date(moved.getTime() + (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 * times);
}

/** The first number below a limit of which something is true, as it is of all that follow; else the limit. */
function firstThat(limit: number, is: (number: number) => boolean): number {
  let [low, high] = [0, limit];
  while (low < high) {
    const middle = (low + high) >> 1;
    [low, high] = is(middle) ? [low, middle] : [middle + 1, high];
  }
  return low;
}
