import { float4Values } from "../tensor/float4";
import type { DecodedValue, Decoding, WeightForm } from "./form";
import type { WeightView } from "./view";

/** Values that share a scale: the OCP MX format, and NVIDIA's. */
export const mxfp4Group = 32;
export const nvfp4Group = 16;

/** FP4 times a power of two for every 32 values of a row. */
export const mxfp4: WeightForm<"mxfp4"> = {
  name: "MXFP4",
  decode: (from, view, { scales }) => {
    const { graph } = from;
    const [rows, columns] = view.shape as [number, number];
    const exponents = graph.cast(from.stored(scales, { type: "uint8", shape: scales.shape }), "int32");
    const powers = graph.gather(graph.constant(powersOfTwo, [256]), exponents);
    return scaledPairs(from, view, mxfp4Group, graph.reshape(powers, [rows, columns / mxfp4Group]));
  },
  companions: ({ scales }) => [scales],
};

/** FP4 times an F8 scale for every 16 values, over one number for the whole matrix. */
export const nvfp4: WeightForm<"nvfp4"> = {
  name: "NVFP4",
  decode: (from, view, { scales, global }) => {
    const { graph } = from;
    const own = graph.cast(from.stored(scales), graph.floatType);
    return scaledPairs(from, view, nvfp4Group, graph.div(own, graph.reshape(from.float(global), [1, 1])));
  },
  companions: ({ scales, global }) => [scales, global],
};

/**
 * Codes, two a byte, times the scale [rows, groups] of their group. A byte is looked up as a pair, which halves the picks
 * of the slowest step and needs no splitting into nibbles.
 */
function scaledPairs<V extends DecodedValue>(from: Decoding<V>, view: WeightView, group: number, scales: V): V {
  const { graph } = from;
  const [rows, columns] = view.shape as [number, number];
  const bytes = from.stored(view, { type: "uint8", shape: [rows, columns / group, group / 2] });
  const pairs = graph.gather(graph.constant(pairValues, [256, 2]), graph.cast(bytes, "int32"));
  return graph.reshape(graph.mul(pairs, graph.unsqueeze(scales, [2, 3])), [rows, columns]);
}

/** Both values of every byte, the low nibble first. */
const pairValues = Array.from({ length: 512 }, (_, i) => {
  const byte = i >>> 1;
  return float4Values[i % 2 === 0 ? byte & 15 : byte >>> 4]!;
});
/** Scales by their stored exponent (E8M0); 255 is NaN. */
const powersOfTwo = Array.from({ length: 256 }, (_, exponent) => (exponent === 255 ? NaN : 2 ** (exponent - 127)));
