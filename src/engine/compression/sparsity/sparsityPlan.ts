import type { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { SparsityPattern, SparsityPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { routedTokens } from "../layer/expertInputs";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { widthOf } from "../neurons/narrowedConfig";
import { moeLayers } from "../../model/moeLayers";
import { adaptiveShares } from "./budgets";
import { outlierDemand, sensitivityDemand, utilisationDemand, type LayerDemand } from "./demand";
import { runOf } from "./masks";
import type { AdaptiveOptions, magnitudeOptions, sparseGptOptions, wandaOptions } from "./options";

/** One share for all experts. */
export function planMagnitude(context: MethodContext, options: z.infer<typeof magnitudeOptions>): SparsityPlan {
  return sparsityPlan(context, options, uniformShares(context.description, context.options, options.pattern));
}

/** @throws RerouteError plan/invalid for a share or a pattern that the matrices cannot have */
export async function planSparsity(
  context: MethodContext,
  options: z.infer<typeof wandaOptions> | z.infer<typeof sparseGptOptions>,
): Promise<SparsityPlan> {
  const uniform = uniformShares(context.description, context.options, options.pattern);
  if (options.adaptive === "none") return sparsityPlan(context, options, uniform);
  if (options.pattern !== "unstructured") {
    throw new RerouteError(
      "arguments/invalid",
      `The pattern ${options.pattern} keeps half of every expert, so shares cannot be adaptive; use adaptive=none or pattern=unstructured`,
    );
  }
  // Nothing leaves anywhere, so nothing can be spread.
  if (context.options.keep === 1) return sparsityPlan(context, options, uniform);
  return sparsityPlan(context, options, sharesOf(context, options, await demands(context, options)));
}

/** What one pass over the text says of every layer. */
async function demands(context: MethodContext, options: AdaptiveOptions): Promise<LayerDemand[]> {
  const found: LayerDemand[] = [];
  await collect(context, options.sequences, async (collected) => {
    const engine = new LayerEngine(context.runtime, context.checkpoint, context.description.hiddenSize);
    const weighted = context.options.method === "moe-pruner";
    const work = { engine, collected, routed: routedTokens(collected), weighted };
    try {
      if (options.adaptive === "outliers") found.push(await outlierDemand(work, options.outlierFactor));
      else if (options.adaptive === "utilisation") found.push(utilisationDemand(work));
      else found.push(await sensitivityDemand(work, context.options.keep));
    } finally {
      await engine.close();
    }
  });
  return found;
}

function sharesOf(
  { description, options: { keep } }: MethodContext,
  { adaptive, level, spread }: AdaptiveOptions,
  found: readonly LayerDemand[],
): Record<string, number[]> {
  const byLayer = level === "layer" || (level === "auto" && adaptive === "outliers");
  const layers = moeLayers(description);
  const size = ({ intermediateSize }: MoeDescription) => 3 * intermediateSize * description.hiddenSize;
  const items = layers.flatMap(({ layer, moe }, i) => {
    const { ofLayer, ofExperts } = found[i]!;
    if (byLayer) return [{ layer, demand: ofLayer, size: moe.numExperts * size(moe), experts: moe.numExperts }];
    return ofExperts.map((demand) => ({ layer, demand, size: size(moe), experts: 1 }));
  });
  const shares = adaptiveShares(
    items.map(({ demand }) => demand),
    keep,
    spread,
    items.map((item) => item.size),
  );
  const result: Record<string, number[]> = {};
  items.forEach(({ layer, experts }, i) => {
    (result[String(layer)] ??= []).push(...new Array<number>(experts).fill(shares[i]!));
  });
  return result;
}

/**
 * The same share for all experts of every layer.
 * @throws RerouteError plan/invalid
 */
export function uniformShares(
  description: ModelDescription,
  { keep, method }: Pick<CompressOptions, "keep" | "method">,
  pattern: SparsityPattern,
): Record<string, number[]> {
  if (keep > 1) {
    throw invalid(`keep is ${keep}, but ${method} keeps every expert and zeroes weights; give a share up to 1`);
  }
  // The recipe's own default stands for no answer.
  const isHalf = keep === 0.5 || keep === 0.625;
  if (pattern !== "unstructured" && !isHalf && keep !== 1) {
    throw invalid(
      `keep is ${keep}, but the pattern ${pattern} keeps half of the weights; use keep 0.5, or pattern=unstructured`,
    );
  }
  const share = pattern === "unstructured" || keep === 1 ? keep : 0.5;
  return Object.fromEntries(
    moeLayers(description).map(({ layer, moe }) => [String(layer), new Array<number>(moe.numExperts).fill(share)]),
  );
}

/**
 * Refuses shares and patterns that a layer's matrices cannot have.
 * @throws RerouteError plan/invalid
 */
export function validateSparseLayer(
  { pattern, layers }: SparsityPlan,
  layer: number,
  moe: MoeDescription,
  hiddenSize: number,
): void {
  const { keep } = layers[String(layer)]!;
  if (keep.length !== moe.numExperts) {
    throw invalid(`The plan has shares of ${keep.length} experts for layer ${layer}, which has ${moe.numExperts}`);
  }
  const run = runOf(pattern);
  const widths = new Set(moe.experts.flatMap(({ constant }, e) => (constant ? [] : [widthOf(moe, e)])));
  const inputs = [...widths].map((width) => ["intermediate size, the inputs of down,", width] as const);
  for (const [what, width] of [["hidden size, the inputs of gate and up,", hiddenSize] as const, ...inputs]) {
    if (run > 0 && width % run !== 0 && keep.some((share) => share < 1)) {
      throw invalid(
        `The pattern ${pattern} looks at ${run} inputs at a time, but the ${what} of layer ${layer} is ${width}, no multiple of ${run}; use pattern=unstructured`,
      );
    }
    const least = Math.min(...keep);
    if (run === 0 && least * width < 0.5) {
      throw invalid(
        `A share of ${least} keeps none of the ${width} inputs of layer ${layer}'s experts; keep at least ${(1 / width).toPrecision(2)}`,
      );
    }
  }
}

function sparsityPlan(
  { fingerprint, options: { method, keep }, seed, description }: MethodContext,
  { pattern, ...chosen }: Record<string, string | number | boolean> & { pattern: SparsityPattern },
  shares: Record<string, number[]>,
): SparsityPlan {
  const plan: SparsityPlan = {
    schemaVersion: 1,
    paradigm: "sparsity",
    method,
    teacherFingerprint: fingerprint,
    seed,
    options: { keep, ...chosen },
    notes: sparsityNotes(keep, pattern),
    pattern,
    layers: Object.fromEntries(Object.entries(shares).map(([layer, share]) => [layer, { keep: share }])),
  };
  for (const { layer, moe } of moeLayers(description)) validateSparseLayer(plan, layer, moe, description.hiddenSize);
  return plan;
}

function sparsityNotes(keep: number, pattern: SparsityPattern): string[] {
  if (keep === 1) return [];
  const half =
    pattern !== "unstructured" && keep !== 0.5
      ? [`the pattern ${pattern} keeps half of the weights, whatever keep is`]
      : [];
  return [
    ...half,
    "zeros are stored like other numbers: the checkpoint loads everywhere and is not smaller" +
      (pattern === "unstructured" ? "" : `; vLLM and compressed-tensors no longer load ${pattern} in a smaller form`),
  ];
}

function invalid(message: string): RerouteError {
  return new RerouteError("plan/invalid", message);
}
