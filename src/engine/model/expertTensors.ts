import { elementCount } from "../tensor/dtype";
import { unsupported } from "./config";
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

/** How a family stores its experts, by names relative to the MoE block; several names are of several releases. */
export type ExpertLayout =
  /**
   * One by one under `experts.<id>`, or fused as transformers 5 holds them in memory; `axes` says how fused matrices lie,
   * which is outputs first where it says nothing.
   */
  | { projections: ProjectionNames; axes?: FusedAxes }
  /** Fused tensors of these names. */
  | { gateUp: readonly [string, ...string[]]; down: readonly [string, ...string[]] }
  /** Any other layout under `experts.`. */
  | ((weights: Weights, prefix: string, shape: ExpertShape) => StoredExperts);

export interface StoredExperts {
  experts: ExpertWeights[];
  storage: ExpertStorage;
}

export interface ExpertShape {
  numExperts: number;
  hiddenSize: number;
  intermediateSize: number;
  /** The width of each expert, where they differ. */
  widths?: readonly number[];
  /** What in config.json says so, for messages. */
  because: string;
}

/** The routed experts of the block at `<block>.` in the layout that the checkpoint has. */
export function readExperts(weights: Weights, block: string, layout: ExpertLayout, shape: ExpertShape): StoredExperts {
  const prefix = `${block}.experts`;
  const isFused = ["gate_up_proj", "down_proj"].some((name) => weights.has(`${prefix}.${name}`));
  if (shape.widths !== undefined && (typeof layout === "function" || !("projections" in layout) || isFused)) {
    throw unsupported("reroute_expert_widths", shape.widths, "one width a layer where experts are in fused tensors");
  }
  if (typeof layout === "function") return layout(weights, prefix, shape);
  if ("projections" in layout) {
    if (!isFused) return readSeparateExperts(weights, prefix, layout.projections, shape);
    const tensors = { gateUp: `${prefix}.gate_up_proj`, down: `${prefix}.down_proj` };
    const { experts, storage } = readFusedExperts(weights, tensors, shape, layout.axes);
    const split = { prefix: weights.storedName(`${prefix}.`), projections: layout.projections };
    return { experts, storage: { ...storage, split } };
  }
  const first = ([name, ...others]: readonly [string, ...string[]]) =>
    weights.firstOf(`${block}.${name}`, ...others.map((other) => `${block}.${other}`));
  return readFusedExperts(weights, { gateUp: first(layout.gateUp), down: first(layout.down) }, shape);
}

/** Each expert's matrix is [out, in], [in, out], or whichever its shape says, [out, in] where that cannot tell. */
export type FusedAxes = "out-in" | "in-out" | "either";

/** Gate and up in one tensor, gate first, [experts, 2 * intermediate, hidden]; down in another [experts, hidden, intermediate]. */
function readFusedExperts(
  weights: Weights,
  tensors: { gateUp: string; down: string },
  shape: ExpertShape,
  axes: FusedAxes = "out-in",
): { experts: ExpertWeights[]; storage: Extract<ExpertStorage, { kind: "fused" }> } {
  const { numExperts, hiddenSize, intermediateSize, because } = shape;
  const matrix = (name: string, outputs: number, inputs: number) => {
    const stored = weights.shapeOf(name);
    const isTurned = stored?.[1] === inputs && stored[2] === outputs && inputs !== outputs;
    const layout = axes === "either" ? (isTurned ? "in-out" : "out-in") : axes;
    const sides: [number, number] = layout === "in-out" ? [inputs, outputs] : [outputs, inputs];
    return { layout, sides, entry: weights.entry(name, [numExperts, ...sides], because) } as const;
  };
  const gateUp = matrix(tensors.gateUp, 2 * intermediateSize, hiddenSize);
  const down = matrix(tensors.down, hiddenSize, intermediateSize);
  const projection = elementCount([intermediateSize, hiddenSize]);
  const linear = (of: typeof gateUp, offset: number, sides = of.sides): LinearDescription => ({
    weight: weights.slice(of.entry, offset, sides),
    bias: null,
    layout: of.layout,
  });
  const experts = Array.from({ length: numExperts }, (_, expert): ExpertWeights => {
    const from = 2 * expert * projection;
    return {
      gateUp:
        gateUp.layout === "in-out"
          ? { kind: "joined", order: "halves", projection: linear(gateUp, from) }
          : {
              kind: "separate",
              gateProj: linear(gateUp, from, [intermediateSize, hiddenSize]),
              upProj: linear(gateUp, from + projection, [intermediateSize, hiddenSize]),
            },
      downProj: linear(down, expert * projection),
    };
  });
  return { experts, storage: { kind: "fused", tensors: [gateUp.entry.name, down.entry.name] } };
}

function readSeparateExperts(
  weights: Weights,
  prefix: string,
  names: ProjectionNames,
  shape: ExpertShape,
): StoredExperts {
  const experts: ExpertWeights[] = [];
  const options = { ...shape, bias: false };
  const mayBeConstant = weights.hasEnding(".constant");
  for (let expert = 0; expert < shape.numExperts; expert++) {
    const constant = mayBeConstant ? `${prefix}.${expert}.constant` : null;
    if (constant !== null && weights.has(constant)) experts.push(readConstantExpert(weights, constant, shape));
    else {
      const intermediateSize = shape.widths?.[expert] ?? shape.intermediateSize;
      experts.push(readGatedMlp(weights, `${prefix}.${expert}`, names, { ...options, intermediateSize }));
    }
  }
  const suffixes = [names.gateProj, names.upProj, names.downProj].flatMap((name) =>
    weights.endingsOf(`${prefix}.0.${name}`).map((ending) => `.${name}.${ending}`),
  );
  return { experts, storage: { kind: "per-expert", prefix: weights.storedName(`${prefix}.`), suffixes } };
}

export interface MlpSize {
  hiddenSize: number;
  intermediateSize: number;
  because: string;
  bias: boolean;
}

/** A tensor of gate rows, then up rows, and the one of the way back. */
export type JoinedNames = readonly [gateUp: string, down: string];

/**
 * A feed-forward part that every token takes: a dense layer's, or a shared expert. In some families gate and up are one
 * tensor, unless they are stored apart.
 */
export function readMlp(
  weights: Weights,
  prefix: string,
  options: MlpSize & { activation: GatedActivation; joined?: JoinedNames | undefined },
  projections = llamaNames,
): MlpDescription {
  const { activation, intermediateSize, joined } = options;
  const isApart = [projections.gateProj, projections.upProj].some((name) => weights.hasLinear(`${prefix}.${name}`));
  const mlp =
    joined && !isApart
      ? readJoinedMlp(weights, prefix, joined, options)
      : readGatedMlp(weights, prefix, projections, options);
  return { kind: "mlp", weights: mlp, activation, intermediateSize };
}

function readJoinedMlp(weights: Weights, prefix: string, [gateUp, down]: JoinedNames, options: MlpSize): ExpertWeights {
  const { hiddenSize, intermediateSize, because } = options;
  const entry = weights.entry(`${prefix}.${gateUp}.weight`, [2 * intermediateSize, hiddenSize], because);
  const half = (which: number): LinearDescription => ({
    weight: weights.slice(entry, which * elementCount([intermediateSize, hiddenSize]), [intermediateSize, hiddenSize]),
    bias: null,
    layout: "out-in",
  });
  return {
    gateUp: { kind: "separate", gateProj: half(0), upProj: half(1) },
    downProj: weights.linear(`${prefix}.${down}`, intermediateSize, hiddenSize, { bias: false, because }),
  };
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

function readGatedMlp(weights: Weights, prefix: string, names: ProjectionNames, shape: MlpSize): ExpertWeights {
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
