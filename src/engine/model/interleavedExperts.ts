import { mxfp4Group } from "../weights/float4";
import { unsupported } from "./config";
import type { ExpertWeights, LinearDescription, WeightView } from "./description";
import type { ExpertShape, StoredExperts } from "./expertTensors";
import type { Weights } from "./weights";

const groupBytes = mxfp4Group / 2;

/**
 * The experts of gpt-oss under `<prefix>.`: gate and up alternate along the output of one projection, and both
 * projections have biases. Stored in floating point as [experts, in, out], or as released in MXFP4, where rows are
 * outputs: `_blocks` [experts, out, in / 32, 16] and `_scales` [experts, out, in / 32].
 */
export function readInterleavedExperts(weights: Weights, prefix: string, shape: ExpertShape): StoredExperts {
  const { numExperts, hiddenSize, intermediateSize } = shape;
  const gateUp = projection(weights, `${prefix}.gate_up_proj`, hiddenSize, 2 * intermediateSize, shape);
  const down = projection(weights, `${prefix}.down_proj`, intermediateSize, hiddenSize, shape);
  const experts = Array.from({ length: numExperts }, (_, expert): ExpertWeights => ({
    gateUp: { kind: "joined", order: "interleaved", projection: gateUp.ofExpert(expert) },
    downProj: down.ofExpert(expert),
  }));
  const blocks =
    gateUp.plain === null || down.plain === null ? {} : { blocks: { gateUp: gateUp.plain, down: down.plain } };
  return { experts, storage: { kind: "fused", tensors: [...gateUp.tensors, ...down.tensors], ...blocks } };
}

interface FusedProjection {
  tensors: string[];
  /** Name of the matrix where it is stored in floating point. */
  plain: string | null;
  ofExpert: (expert: number) => LinearDescription;
}

function projection(
  weights: Weights,
  name: string,
  inputs: number,
  outputs: number,
  shape: ExpertShape,
): FusedProjection {
  const { numExperts, because } = shape;
  const quantised = weights.has(`${name}_blocks`);
  const matrix = quantised
    ? quantisedMatrix(weights, name, inputs, outputs, shape)
    : plainMatrix(weights, name, inputs, outputs, shape);
  const bias = weights.entry(`${name}_bias`, [numExperts, outputs], because);
  return {
    plain: quantised ? null : matrix.tensors[0]!,
    tensors: [...matrix.tensors, bias.name],
    ofExpert: (expert) => ({
      weight: matrix.ofExpert(expert),
      bias: weights.slice(bias, expert * outputs, [outputs]),
      layout: quantised ? "out-in" : "in-out",
    }),
  };
}

interface FusedMatrix {
  tensors: string[];
  ofExpert: (expert: number) => WeightView;
}

function plainMatrix(weights: Weights, name: string, inputs: number, outputs: number, shape: ExpertShape): FusedMatrix {
  const entry = weights.entry(name, [shape.numExperts, inputs, outputs], shape.because);
  return {
    tensors: [entry.name],
    ofExpert: (expert) => weights.slice(entry, expert * inputs * outputs, [inputs, outputs]),
  };
}

function quantisedMatrix(
  weights: Weights,
  name: string,
  inputs: number,
  outputs: number,
  shape: ExpertShape,
): FusedMatrix {
  const { numExperts, because } = shape;
  const groups = inputs / mxfp4Group;
  if (!Number.isInteger(groups)) {
    throw unsupported(
      "quantization_config.quant_method",
      "mxfp4",
      `sizes that are multiples of ${mxfp4Group}; ${name} has ${inputs} inputs`,
    );
  }
  const blocks = weights.bytes(`${name}_blocks`, [numExperts, outputs, groups, groupBytes], because);
  const scales = weights.bytes(`${name}_scales`, [numExperts, outputs, groups], because);
  const perExpert = outputs * groups;
  return {
    tensors: [blocks.name, scales.name],
    ofExpert: (expert) => ({
      tensor: blocks.name,
      offset: expert * perExpert * groupBytes,
      shape: [outputs, inputs],
      dtype: blocks.dtype,
      quantisation: {
        kind: "mxfp4",
        scales: { tensor: scales.name, offset: expert * perExpert, shape: [outputs, groups], dtype: scales.dtype },
      },
    }),
  };
}
