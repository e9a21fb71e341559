interface Tick {
  value: number;
}

/**
 * Writes an axis' ticks as the chart writes its numbers, with more digits where two of them would read the same: the differences that
 * are looked at may be far smaller than the numbers.
 */
export function tickLabels(format: (value: number) => string): (value: number, index: number, ticks: Tick[]) => string {
  return (value, _, ticks) => {
    const usual = format(value);
    const isPlain = /^-?\d+(\.\d+)?$/.test(usual);
    if (!isPlain || areDistinct(ticks, format)) return usual;
    let digits = 5;
    while (digits < 15 && !areDistinct(ticks, (each) => each.toPrecision(digits))) digits++;
    return value.toPrecision(digits);
  };
}

function areDistinct(ticks: readonly Tick[], format: (value: number) => string): boolean {
  return new Set(ticks.map(({ value }) => format(value))).size === ticks.length;
}

/** An upright title in lines that fit beside a plot of this height: chart.js cuts what is longer at both ends. */
export function uprightTitle(title: string, height: number, { fontSize }: { fontSize: number }): string[] {
  const most = Math.max(12, Math.floor(height / (0.56 * fontSize)));
  return title.split(" ").reduce<string[]>((lines, word) => {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > most) return [...lines, word];
    return [...lines.slice(0, -1), `${last} ${word}`];
  }, []);
}

/**
 * Where an error bar ends below: not under the least value that there can be, and on a logarithmic axis, which has no place for 0 and
 * less, not under half the value.
 */
export function intervalLow(
  y: number,
  halfWidth: number | null,
  { min, log }: { min?: number; log?: boolean },
): number {
  const low = Math.max(min ?? -Infinity, y - (halfWidth ?? 0));
  return log === true ? Math.max(low, y / 2) : low;
}

/** A tick a line of text, which needs so many pixels. */
const tickHeight = 16;

/** Of a logarithmic axis `height` pixels long, the ticks whose labels have room, from the largest down: an end is rarely round. */
export function ticksApart<T extends Tick>(ticks: readonly T[], height: number): T[] {
  const values = ticks.map(({ value }) => Math.log(value));
  const pixels = height / (Math.max(...values) - Math.min(...values) || 1);
  let last = Infinity;
  return [...ticks]
    .sort((a, b) => b.value - a.value)
    .filter(({ value }) => {
      const isFree = (last - Math.log(value)) * pixels >= tickHeight;
      if (isFree) last = Math.log(value);
      return isFree;
    })
    .reverse();
}

/** The type of an upright axis, and what it takes that the labels of a logarithmic one do not lie on each other. */
export function uprightScale(log: boolean | undefined): object {
  if (log !== true) return { type: "linear" };
  return {
    type: "logarithmic",
    afterBuildTicks: (scale: { ticks: Tick[]; height: number; maxHeight: number }) => {
      scale.ticks = ticksApart(scale.ticks, scale.height || scale.maxHeight);
    },
  };
}
