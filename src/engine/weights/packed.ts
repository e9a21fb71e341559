import { packedRowBytes, unpackRows, wordColumns } from "./bitStream";
import type { DecodedValue, Decoding, WeightForm } from "./form";
import type { PackedIntegers, WeightView } from "./view";

/** Blocks that MatMulNBits of onnxruntime takes, largest first. */
const productBlocks = [256, 128, 64, 32, 16];

/**
 * compressed-tensors `pack-quantized`: integers in a bit stream a row. The stored bytes are those that onnxruntime's
 * MatMulNBits and DequantizeLinear (uint4, uint8) read, so 4 and 8 bits are mapped and never unpacked.
 */
export const packed: WeightForm<"packed"> = {
  name: "packed integers",
  decode,
  product: (from, x, view, stored) => {
    const { bits, group, zeros } = stored;
    const [rows, columns] = view.shape as [number, number];
    // With 8 bits onnxruntime unpacks all of the matrix for each product, which DequantizeLinear does faster.
    if (zeros !== null || (bits !== 2 && bits !== 4)) return null;
    const block =
      group === columns
        ? productBlocks.find((size) => columns % size === 0)
        : productBlocks.find((size) => size === group);
    if (block === undefined || columns % block !== 0) return null;
    const { graph } = from;
    const blocks = columns / block;
    const codes = from.stored(view, { type: "uint8", shape: [rows, blocks, (block * bits) / 8] });
    const own = from.float(stored.scales);
    const scales =
      stored.scales.shape[1] === blocks
        ? own
        : graph.gather(own, graph.int64Constant(new Array<number>(blocks).fill(0)), 1);
    return graph.matMulNBits(x, codes, scales, { bits, block, decoded: () => decode(from, view, stored) });
  },
  scales: ({ scales }) => scales,
  companions: ({ scales, zeros }) => (zeros === null ? [scales] : [scales, zeros]),
};

function decode<V extends DecodedValue>(from: Decoding<V>, view: WeightView, stored: PackedIntegers): V {
  const { graph } = from;
  const { bits, group, zeros } = stored;
  const [rows, columns] = view.shape as [number, number];
  const scales = from.float(stored.scales);
  const groups = columns / group;
  const isDense = packedRowBytes(columns, bits) * 8 === columns * bits;
  if (bits === 4 && isDense && zeros === null) {
    const codes = from.stored(view, { type: "uint4", shape: [rows, columns] });
    return graph.dequantizeLinear(codes, scales, graph.filled("uint4", 8, [rows, groups]), 1, group);
  }
  const bytes = from.stored(view, { type: "uint8", shape: [rows, packedRowBytes(columns, bits)] });
  const codes = unpackRows(from, bytes, [rows, columns], bits);
  const zero =
    zeros === null
      ? graph.filled("uint8", 2 ** (bits - 1), [rows, groups])
      : packedZeros(from, zeros, rows, groups, bits);
  return graph.dequantizeLinear(codes, scales, zero, 1, group);
}

/** Zero points are packed along the rows, u = z + 2^(bits - 1), like the codes: [rows, groups]. */
function packedZeros<V extends DecodedValue>(
  from: Decoding<V>,
  zeros: WeightView,
  rows: number,
  groups: number,
  bits: PackedIntegers["bits"],
): V {
  const bytes = wordColumns(from, zeros, [packedRowBytes(rows, bits) / 4, groups]);
  return from.graph.transpose(unpackRows(from, bytes, [groups, rows], bits), [1, 0]);
}
