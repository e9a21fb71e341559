import { colourAt, type colourStops } from "../../../src/protocol/colourScales";

/** Steps of a look-up table: finer than 8-bit colours can show. */
export const lutSize = 1024;

const tables = new Map<string, Uint8ClampedArray>();

/** RGB triplets of a scale, `lutSize` of them, made once. */
export function lookupTable(scale: keyof typeof colourStops): Uint8ClampedArray {
  const known = tables.get(scale);
  if (known) return known;
  const table = new Uint8ClampedArray(lutSize * 3);
  for (let i = 0; i < lutSize; i++) table.set(colourAt(scale, i / (lutSize - 1)), i * 3);
  tables.set(scale, table);
  return table;
}
