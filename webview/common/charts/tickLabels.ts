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
