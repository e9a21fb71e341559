import { elementCount } from "../tensor/dtype";
import type { ExpertStorage, ExpertWeights, GatedActivation, LinearDescription, MlpDescription } from "./description";
import type { Weights } from "./weights";

/** Names of one expert's projections on disk. */
export interface ProjectionNames {
  gateProj: string;
  upProj: string;
  downProj: string;
}

export const llamaNames: ProjectionNames = { gateProj: "gate_proj", upProj: "up_proj", downProj: "down_proj" };
export const mixtralNames: ProjectionNames = { gateProj: "w1", upProj: "w3", downProj: "w2" };

export interface ExpertShape {
  numExperts: number;
  hiddenSize: number;
  intermediateSize: number;
  /** What in config.json says so, for messages. */
  because: string;
}

/**
 * The routed experts under `<prefix>.`, stored one by one (`<prefix>.<id>.gate_proj.weight`) or as transformers 5 holds
 * them in memory: `<prefix>.gate_up_proj` [experts, 2 * intermediate, hidden], gate rows first, and `<prefix>.down_proj`
 * [experts, hidden, intermediate].
 */
export function readExperts(
  weights: Weights,
  prefix: string,
  names: ProjectionNames,
  shape: ExpertShape,
): { experts: ExpertWeights[]; storage: ExpertStorage } {
  return weights.has(`${prefix}.gate_up_proj`)
    ? readFusedExperts(weights, { gateUp: `${prefix}.gate_up_proj`, down: `${prefix}.down_proj` }, shape)
    : readSeparateExperts(weights, prefix, names, shape);
}

/** Gate and up rows in one tensor [experts, 2 * intermediate, hidden], down in another [experts, hidden, intermediate]. */
export function readFusedExperts(
  weights: Weights,
  tensors: { gateUp: string; down: string },
  shape: ExpertShape,
): { experts: ExpertWeights[]; storage: ExpertStorage } {
  const { numExperts, hiddenSize, intermediateSize, because } = shape;
  const gateUp = weights.entry(tensors.gateUp, [numExperts, 2 * intermediateSize, hiddenSize], because);
  const down = weights.entry(tensors.down, [numExperts, hiddenSize, intermediateSize], because);
  const projection = elementCount([intermediateSize, hiddenSize]);
  const linear = (entry: typeof gateUp, offset: number, [outputs, inputs]: [number, number]): LinearDescription => ({
    weight: weights.slice(entry, offset, [outputs, inputs]),
    bias: null,
    layout: "out-in",
  });
  const experts = Array.from({ length: numExperts }, (_, expert): ExpertWeights => {
    const gateRow = 2 * expert * projection;
    return {
      gateUp: {
        kind: "separate",
        gateProj: linear(gateUp, gateRow, [intermediateSize, hiddenSize]),
        upProj: linear(gateUp, gateRow + projection, [intermediateSize, hiddenSize]),
      },
      downProj: linear(down, expert * projection, [hiddenSize, intermediateSize]),
    };
  });
  return { experts, storage: { kind: "fused", tensors: [tensors.gateUp, tensors.down] } };
}

function readSeparateExperts(
  weights: Weights,
  prefix: string,
  names: ProjectionNames,
  shape: ExpertShape,
): { experts: ExpertWeights[]; storage: ExpertStorage } {
  const experts: ExpertWeights[] = [];
  const options = { ...shape, bias: false };
  const mayBeConstant = weights.hasEnding(".constant");
  for (let expert = 0; expert < shape.numExperts; expert++) {
    const constant = mayBeConstant ? `${prefix}.${expert}.constant` : null;
    if (constant !== null && weights.has(constant)) experts.push(readConstantExpert(weights, constant, shape));
    else experts.push(readGatedMlp(weights, `${prefix}.${expert}`, names, options));
  }
  const suffixes = [names.gateProj, names.upProj, names.downProj].flatMap((name) => {
    const suffix = `.${name}.weight`;
    return weights.has(`${prefix}.0${suffix}_scale_inv`) ? [suffix, `${suffix}_scale_inv`] : [suffix];
  });
  return { experts, storage: { kind: "per-expert", prefix: `${prefix}.`, suffixes } };
}

/** A feed-forward part that every token takes: a dense layer's, or a shared expert. */
export function readMlp(
  weights: Weights,
  prefix: string,
  options: {
    hiddenSize: number;
    intermediateSize: number;
    because: string;
    activation: GatedActivation;
    bias?: boolean;
  },
): MlpDescription {
  const { activation, intermediateSize, bias = false } = options;
  const mlp = readGatedMlp(weights, prefix, llamaNames, { ...options, bias });
  return { kind: "mlp", weights: mlp, activation, intermediateSize };
}

/** Reroute's own layout for experts that became constant: one vector, `<prefix>.<id>.constant` [hidden]. */
function readConstantExpert(weights: Weights, name: string, { hiddenSize, because }: ExpertShape): ExpertWeights {
  const constant = weights.view(name, [hiddenSize], because);
  // Behind the vector, so that no weight shares its key.
  const nothing: LinearDescription = {
    weight: { ...constant, offset: hiddenSize, shape: [0, hiddenSize] },
    bias: null,
    layout: "out-in",
  };
  return { constant, gateUp: { kind: "separate", gateProj: nothing, upProj: nothing }, downProj: nothing };
}

function readGatedMlp(
  weights: Weights,
  prefix: string,
  names: ProjectionNames,
  shape: { hiddenSize: number; intermediateSize: number; because: string; bias: boolean },
): ExpertWeights {
  const { hiddenSize, intermediateSize } = shape;
  return {
    gateUp: {
      kind: "separate",
      gateProj: weights.linear(`${prefix}.${names.gateProj}`, hiddenSize, intermediateSize, shape),
      upProj: weights.linear(`${prefix}.${names.upProj}`, hiddenSize, intermediateSize, shape),
    },
    downProj: weights.linear(`${prefix}.${names.downProj}`, intermediateSize, hiddenSize, shape),
  };
}
