import type { DecodedValue, Decoding, WeightForm } from "./form";

/**
 * Codes with block scales, by one DequantizeLinear: scales of fewer rows are repeated for the rows of their block, which
 * costs less than spreading them to every column.
 */
export const scaled: WeightForm<"scaled"> = {
  name: "codes with scales",
  decode: (from, view, { scales, blockRows, blockColumns }) => {
    const { graph } = from;
    const [rows, columns] = view.shape as [number, number];
    const codes = from.stored(view);
    const stored = from.float(scales);
    if (blockColumns >= columns) {
      const perRow = spread(from, graph.reshape(stored, [Math.ceil(rows / blockRows)]), rows, blockRows);
      return graph.dequantizeLinear(codes, perRow, null, 0, 0);
    }
    const groups = Math.ceil(columns / blockColumns);
    const perRow = spread(from, graph.reshape(stored, [Math.ceil(rows / blockRows), groups]), rows, blockRows);
    return graph.dequantizeLinear(codes, perRow, null, 1, blockColumns);
  },
  scales: ({ scales }) => scales,
  companions: ({ scales }) => [scales],
};

/** Each row of `scales` for the `block` rows that share it. */
function spread<V extends DecodedValue>({ graph }: Decoding<V>, scales: V, rows: number, block: number): V {
  if (block === 1) return scales;
  return graph.gather(scales, graph.int64Constant(Array.from({ length: rows }, (_, i) => Math.floor(i / block))), 0);
}
