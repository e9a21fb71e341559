import { readGatedActivation } from "./activation";
import type { Config } from "./config";
import type { DecoderSizes } from "./decoder";
import type {
  GatedActivation,
  MlpDescription,
  MoeDescription,
  NormDescription,
  RouterDescription,
  WeightView,
} from "./description";
import { readExpertCount, type ExpertCountKeys } from "./expertCount";
import {
  llamaNames,
  readExperts,
  readMlp,
  type ExpertLayout,
  type StoredExperts,
  type JoinedNames,
  type MlpSize,
  type ProjectionNames,
} from "./expertTensors";
import { readExpertWidths } from "./expertWidths";
import type { RoutingRule } from "./routingRules";
import { settle, type Setting } from "./settings";
import { everyLayer, type SparseRule } from "./sparseLayers";
import type { Weights } from "./weights";

/** Names of one tensor, the released one first; a checkpoint has one of them. */
export type Names = readonly [string, ...string[]];

/**
 * The feed-forward parts of a family. Names are relative to the MoE block, "<layer>.<block>.", but those of the shared
 * experts, which are relative to the layer.
 */
export interface FeedForwardTable {
  /** Which layers have experts; default: all. */
  sparse?: SparseRule;
  /** The parts of the other layers; default: `<layer>.mlp`, with Llama's names. */
  dense?: { size: Setting<number>; bias?: Setting<boolean>; name?: string; projections?: ProjectionNames };
  /** Default: `hidden_act`, gated. */
  activation?: Setting<GatedActivation>;
  /** Default: mlp. */
  block?: Names;
  /** Default: gate.weight. */
  router?: Names;
  routerBias?: Names;
  /** The router reads the hidden states, normalised and times this vector and hidden^-1/2 (Gemma 4). */
  routerInput?: { scale: string };
  /** [experts]: multiplies routing weights. */
  expertScale?: Names;
  /** A norm of the routed sum, relative to the layer. */
  routedNorm?: string;
  /** [experts], or [1, experts] with a `leadingOne`. */
  correctionBias?: Names;
  leadingOne?: boolean;
  count: ExpertCountKeys;
  /** Width of one routed expert. */
  size: Setting<number>;
  experts: ExpertLayout;
  routing: RoutingRule;
  /** Routing weights multiply what experts read. */
  weightsInput?: true;
  /** The routed experts' sum is multiplied by this, the shared ones' is not. */
  routedMultiplier?: Setting<number>;
  shared?: SharedTable;
  /** Names of dense and shared parts whose gate and up are one tensor; default: they are two. */
  joined?: JoinedNames;
}

/** The feed-forward parts of a family without experts. */
export interface DenseTable extends Pick<FeedForwardTable, "activation" | "joined"> {
  dense: NonNullable<FeedForwardTable["dense"]>;
}

export interface SharedTable {
  names: Names;
  /** Width of all shared experts, which are stored as one; 0: none. */
  size: Setting<number>;
  /** Keys of config.json that say so, for messages. */
  because: string;
  /** The width is the number of shared experts times the width of one, under these keys. */
  counted?: { countKey: string; widthKey: string };
  bias?: Setting<boolean>;
  /** Norms of the hidden states that they read, and of what they give, relative to the layer (Gemma 4). */
  inputNorm?: string;
  outputNorm?: string;
  /** A sigmoid gate on the shared experts' output (Qwen2-MoE), relative to the layer. */
  gate?: string;
}

export interface FeedForwardContext {
  config: Config;
  weights: Weights;
  sizes: DecoderSizes;
}

/** Reads the feed-forward part of each layer of a family without experts. */
export function denseReader(
  { config, weights, sizes: { hiddenSize } }: FeedForwardContext,
  { dense, joined, activation: given }: DenseTable,
): (index: number, layer: string) => MlpDescription {
  const activation = settle(given ?? readGatedActivation, config, undefined!);
  const intermediateSize = settle(dense.size, config, 0);
  const bias = settle(dense.bias, config, false);
  const because = `intermediate_size = ${intermediateSize}`;
  const { name = "mlp", projections = llamaNames } = dense;
  return (_, layer) =>
    readMlp(
      weights,
      `${layer}.${name}`,
      { intermediateSize, bias, because, hiddenSize, activation, joined },
      projections,
    );
}

/** Reads the feed-forward part of each layer, which is under `<layer>.` for a layer such as "model.layers.3". */
export function feedForwardReader(
  { config, weights, sizes }: FeedForwardContext,
  table: FeedForwardTable,
): (index: number, layer: string) => MlpDescription | MoeDescription {
  const { hiddenSize, numLayers } = sizes;
  const { isSparse, because } = (table.sparse ?? everyLayer)(config, sizes);
  const activation = settle(table.activation ?? readGatedActivation, config, undefined!);
  const intermediateSize = settle(table.size, config, 0);
  const routedMultiplier = settle(table.routedMultiplier, config, 1);
  const dense = { size: settle(table.dense?.size, config, 0), bias: settle(table.dense?.bias, config, false) };
  const shared = table.shared && {
    ...table.shared,
    size: settle(table.shared.size, config, 0),
    bias: settle(table.shared.bias, config, false),
  };
  const mlp = (prefix: string, size: Omit<MlpSize, "hiddenSize">, names?: ProjectionNames): MlpDescription =>
    readMlp(weights, prefix, { ...size, hiddenSize, activation, joined: table.joined }, names);

  return (index, layer) => {
    if (!isSparse(index)) {
      const says = `layer ${index} is dense, ${because}, intermediate_size = ${dense.size}`;
      const { name = "mlp", projections = llamaNames } = table.dense ?? {};
      return mlp(`${layer}.${name}`, { intermediateSize: dense.size, bias: dense.bias, because: says }, projections);
    }
    const count = readExpertCount(config, index, numLayers, table.count);
    const rows = count.numLogicalExperts;
    const block = blockOf(weights, layer, table);
    const named = (names: Names) => weights.firstOf(...inBlock(block, names));
    const vector = (names: Names | undefined, leadingOne = false): WeightView | null => {
      if (names === undefined) return null;
      const entry = weights.entry(named(names), leadingOne ? [1, rows] : [rows], count.because);
      return weights.slice(entry, 0, [rows]);
    };
    const routing = table.routing(config, count);
    const widths = readExpertWidths(config, index, { numLayers, numExperts: count.numExperts });
    const width = widths === null ? intermediateSize : Math.max(...widths);
    const { routerInput, routedNorm } = table;
    // Read first: where a checkpoint was pruned behind its config's back, the router's message is the clearest.
    const router = weights.view(named(table.router ?? ["gate.weight"]), [rows, hiddenSize], count.because);
    const expertScale = vector(table.expertScale);
    const isBiased = "useCorrectionBias" in routing && routing.useCorrectionBias;
    return {
      kind: "moe",
      router: {
        weight: router,
        bias: vector(table.routerBias),
        correctionBias: isBiased ? vector(table.correctionBias, table.leadingOne) : null,
        ...(routerInput ? { input: readRouterInput(named([routerInput.scale])) } : {}),
        ...(expertScale ? { expertScale } : {}),
      },
      routing,
      ...(table.weightsInput ? { weightsInput: true as const } : {}),
      numExperts: count.numExperts,
      numExpertsPerToken: count.numExpertsPerToken,
      ...splitAsReleased(
        block === within(layer, (table.block ?? defaultBlock)[0]),
        readExperts(weights, block, table.experts, {
          numExperts: count.numExperts,
          hiddenSize,
          intermediateSize: width,
          ...(widths?.some((own) => own !== width) ? { widths } : {}),
          because: widths === null ? count.because : `${count.because} and reroute_expert_widths`,
        }),
      ),
      activation,
      intermediateSize: width,
      routedMultiplier,
      ...(routedNorm ? { routedNorm: norm(`${layer}.${routedNorm}`) } : {}),
      shared: shared === undefined || shared.size === 0 ? null : readShared(layer, shared),
      logicalToPhysical: count.logicalToPhysical,
    };
  };

  function norm(name: string): NormDescription {
    return weights.norm("rms", name, hiddenSize, sizes.normEpsilon);
  }

  function readRouterInput(scale: string): NonNullable<RouterDescription["input"]> {
    const weight = weights.view(scale, [hiddenSize], "hidden_size");
    return { norm: { kind: "rms", weight, bias: null, epsilon: sizes.normEpsilon }, scale: hiddenSize ** -0.5 };
  }

  function readShared(
    layer: string,
    { names, size, bias, because, gate, inputNorm, outputNorm }: NonNullable<typeof shared>,
  ): NonNullable<MoeDescription["shared"]> {
    const says = `${because}: ${size}`;
    const { gateProj, upProj, downProj } = llamaNames;
    const projections = [gateProj, upProj, downProj, ...(table.joined ?? [])];
    const prefix = inBlock(layer, names).find((name) => projections.some((one) => weights.hasLinear(`${name}.${one}`)));
    return {
      mlp: mlp(prefix ?? `${layer}.${names[0]}`, { intermediateSize: size, bias, because: says }),
      gate:
        gate === undefined ? null : weights.linear(`${layer}.${gate}`, hiddenSize, 1, { bias: false, because: says }),
      ...(inputNorm ? { inputNorm: norm(`${layer}.${inputNorm}`) } : {}),
      ...(outputNorm ? { outputNorm: norm(`${layer}.${outputNorm}`) } : {}),
    };
  }
}

/** Tensors beside routers and experts that have one entry per expert, under all of their names. */
export function perExpertTensors(layer: string, table: FeedForwardTable): { name: string; axis: number }[] {
  const names = [
    ...(table.expertScale ?? []).map((name) => ({ name, axis: 0 })),
    ...(table.routerBias ?? []).map((name) => ({ name, axis: 0 })),
    ...(table.correctionBias ?? []).map((name) => ({ name, axis: table.leadingOne ? 1 : 0 })),
  ];
  const blocks = table.block ?? defaultBlock;
  return blocks.flatMap((block) => names.map(({ name, axis }) => ({ name: within(within(layer, block), name), axis })));
}

const defaultBlock: Names = ["mlp"];

/** Experts taken apart would have names that no loader knows in a block that only transformers' memory has (Mixtral's `mlp`). */
function splitAsReleased(isReleased: boolean, { experts, storage }: StoredExperts): StoredExperts {
  return {
    experts,
    storage: storage.kind === "fused" && !isReleased ? { kind: "fused", tensors: storage.tensors } : storage,
  };
}

/** The first block whose router is there; the first of all where none is, so that errors name it. */
function blockOf(
  weights: Weights,
  layer: string,
  { block = defaultBlock, router = ["gate.weight"] }: FeedForwardTable,
) {
  const found = block.find((name) => inBlock(within(layer, name), router).some((tensor) => weights.has(tensor)));
  return within(layer, found ?? block[0]);
}

/** A block without a name is the layer itself. */
function within(prefix: string, name: string): string {
  return name === "" ? prefix : `${prefix}.${name}`;
}

function inBlock(prefix: string, names: Names): [string, ...string[]] {
  const [first, ...others] = names;
  return [`${prefix}.${first}`, ...others.map((name) => `${prefix}.${name}`)];
}
