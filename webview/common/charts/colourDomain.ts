import type { ColourScale } from "../../../src/protocol/pageMessages";
import { lookupTable, lutSize } from "./colourScale";

/** A logarithmic scale ends here: one tiny value must not use up all colours. */
const logDecades = 4;

/** How values become positions 0..1 on a colour scale. */
export interface ColourDomain {
  readonly table: Uint8ClampedArray;
  readonly min: number;
  readonly max: number;
  /** Logarithmic: values at or below `min` take the first colour. */
  readonly log: boolean;
  position(value: number): number;
}

export interface DomainOptions {
  colours: ColourScale;
  /** Signed values: 0 in the middle, both sides equally long. */
  diverging?: boolean;
  log?: boolean;
  /** Fixed ends, so that several pictures compare; else the values' own. */
  min?: number;
  max?: number;
  /** Where a logarithmic scale begins, so that several pictures compare; else the smallest positive value. */
  logMin?: number;
}

/** @returns the domain over the finite values; one that is usable (0..1) when there are none. */
export function colourDomain(values: readonly (number | null)[], options: DomainOptions): ColourDomain {
  let low = Infinity;
  let high = -Infinity;
  let smallestPositive = Infinity;
  for (const value of values) {
    if (value === null) continue;
    if (value < low) low = value;
    if (value > high) high = value;
    if (value > 0 && value < smallestPositive) smallestPositive = value;
  }
  if (low > high) [low, high] = [0, 1];
  if (options.diverging === true) {
    const reach = Math.max(Math.abs(options.min ?? low), Math.abs(options.max ?? high)) || 1;
    return linear(lookupTable("diverging"), -reach, reach);
  }
  const table = lookupTable(options.colours);
  const max = options.max ?? high;
  // A logarithm needs a positive range; without one the scale stays linear.
  const start = Math.max(options.logMin ?? smallestPositive, max / 10 ** logDecades);
  if (options.log === true && start < max) {
    const logMin = Math.log(start);
    const logRange = Math.log(max) - logMin;
    return {
      table,
      min: start,
      max,
      log: true,
      position: (value) => (value <= start ? 0 : Math.min(1, (Math.log(value) - logMin) / logRange)),
    };
  }
  return linear(table, options.min ?? low, max);
}

function linear(table: Uint8ClampedArray, min: number, max: number): ColourDomain {
  const range = max - min;
  return {
    table,
    min,
    max,
    log: false,
    // All values equal: the middle colour says neither "low" nor "high".
    position: (value) => (range > 0 ? Math.min(1, Math.max(0, (value - min) / range)) : 0.5),
  };
}

/** One RGBA pixel a cell, row-major; null cells stay transparent. */
export function paintCells(values: readonly (number | null)[], domain: ColourDomain, pixels: Uint8ClampedArray): void {
  const { table } = domain;
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value === null) {
      pixels[i * 4 + 3] = 0;
      continue;
    }
    const at = Math.round(domain.position(value) * (lutSize - 1)) * 3;
    pixels[i * 4] = table[at]!;
    pixels[i * 4 + 1] = table[at + 1]!;
    pixels[i * 4 + 2] = table[at + 2]!;
    pixels[i * 4 + 3] = 255;
  }
}
