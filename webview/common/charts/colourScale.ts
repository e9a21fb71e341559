import type { ColourScale } from "../../../src/protocol/pageMessages";

export type Rgb = readonly [number, number, number];

/**
 * Maps 0..1 to a colour. Sequential scales rise monotonically in lightness, also as people with colour blindness see them;
 * a test computes both. Viridis and cividis: nine samples of matplotlib's tables; the signed scale: ColorBrewer PuOr.
 */
const anchors: Record<ColourScale | "diverging", readonly string[]> = {
  viridis: ["440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725"],
  cividis: ["00224e", "123570", "3b496c", "575d6d", "707173", "8a8678", "a59c74", "c3b369", "fee838"],
  greys: ["141414", "303030", "4c4c4c", "686868", "858585", "a2a2a2", "c0c0c0", "dedede", "fcfcfc"],
  diverging: ["2d004b", "542788", "8073ac", "b2abd2", "f7f7f7", "fdb863", "e08214", "b35806", "7f3b08"],
};

/** Steps of a look-up table: finer than 8-bit colours can show. */
export const lutSize = 1024;

const tables = new Map<string, Uint8ClampedArray>();

/** RGB triplets of a scale, `lutSize` of them, made once. */
export function lookupTable(scale: ColourScale | "diverging"): Uint8ClampedArray {
  const known = tables.get(scale);
  if (known) return known;
  const table = new Uint8ClampedArray(lutSize * 3);
  for (let i = 0; i < lutSize; i++) table.set(interpolate(anchors[scale], i / (lutSize - 1)), i * 3);
  tables.set(scale, table);
  return table;
}

function interpolate(hex: readonly string[], at: number): Rgb {
  const position = at * (hex.length - 1);
  const index = Math.min(hex.length - 2, Math.floor(position));
  const from = rgb(hex[index]!);
  const to = rgb(hex[index + 1]!);
  const t = position - index;
  return [0, 1, 2].map((c) => from[c]! + (to[c]! - from[c]!) * t) as unknown as Rgb;
}

function rgb(hex: string): Rgb {
  return [0, 2, 4].map((i) => Number.parseInt(hex.slice(i, i + 2), 16)) as unknown as Rgb;
}
