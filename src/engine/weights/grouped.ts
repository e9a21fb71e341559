import { packedRowBytes, unpackRows, wordColumns } from "./bitStream";
import type { DecodedValue, Decoding, WeightForm } from "./form";
import type { GroupedIntegers } from "./view";

/** GPTQ: the words of an output hold its inputs, one word row after the other. The matrix is [inputs, outputs]. */
export const gptqForm: WeightForm<"gptq"> = {
  name: "GPTQ integers",
  decode: (from, view, stored) => {
    const { graph } = from;
    const { bits } = stored;
    const [inputs, outputs] = view.shape as [number, number];
    const bytes = wordColumns(from, view, [packedRowBytes(inputs, bits) / 4, outputs]);
    const codes = graph.transpose(unpackRows(from, bytes, [outputs, inputs], bits), [1, 0]);
    const groups = inputs / stored.group;
    const zeroBytes = from.stored(stored.zeros, { type: "uint8", shape: [groups, packedRowBytes(outputs, bits)] });
    return scale(from, codes, unpackRows(from, zeroBytes, [groups, outputs], bits), stored);
  },
  scales: ({ scales }) => scales,
  companions: ({ scales, zeros }) => [scales, zeros],
};

/** AWQ (gemm): the eight outputs of a word in the order 0, 2, 4, 6, 1, 3, 5, 7. The matrix is [inputs, outputs]. */
export const awq: WeightForm<"awq"> = {
  name: "AWQ integers",
  decode: (from, view, stored) => {
    const [inputs, outputs] = view.shape as [number, number];
    const rows = (of: GroupedIntegers["zeros"], count: number) => {
      const bytes = from.stored(of, { type: "uint8", shape: [count, outputs / 2] });
      return inOrder(from, unpackRows(from, bytes, [count, outputs], 4), count, outputs);
    };
    return scale(from, rows(view, inputs), rows(stored.zeros, inputs / stored.group), stored);
  },
  scales: ({ scales }) => scales,
  companions: ({ scales, zeros }) => [scales, zeros],
};

/** Nibble 4 a + 2 b + c of a word holds output a + 4 b + 2 c of its eight. */
function inOrder<V extends DecodedValue>({ graph }: Decoding<V>, nibbles: V, rows: number, outputs: number): V {
  const split = graph.reshape(nibbles, [(rows * outputs) / 8, 2, 2, 2]);
  return graph.reshape(graph.transpose(split, [0, 2, 3, 1]), [rows, outputs]);
}

function scale<V extends DecodedValue>(from: Decoding<V>, codes: V, zeros: V, stored: GroupedIntegers): V {
  const { graph } = from;
  const { scales, group, zeroOffset } = stored;
  const plusOne = () => graph.uint8Constant(Array.from({ length: 256 }, (_, zero) => (zero + 1) % 256));
  const zero = zeroOffset === 0 ? zeros : graph.gather(plusOne(), graph.cast(zeros, "int32"));
  return graph.dequantizeLinear(codes, from.float(scales), zero, 0, group);
}
