import type { z } from "zod";
import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import { paradigmOf, type CompressionMethod, type Paradigm } from "../../protocol/methods";
import type { CompressOptions } from "../../protocol/recipe";
import type { MethodForecast } from "./cost/layerCost";
import type { CompressedLayer } from "./layer/compressedTensors";
import type { LayerStage } from "./layer/stage";
import { ablationOptions, planAblation } from "./ablation/ablationPlan";
import { budgetOptions } from "./budgets/expertCounts";
import { applyMerging } from "./merging/applyMerging";
import { planHcSmoe, planMSmoe } from "./merging/mergingPlan";
import { hcSmoeForecast, mSmoeForecast, reamForecast } from "./merging/forecast";
import { appliedMergeOptions, hcSmoeOptions, mSmoeOptions, reamOptions } from "./merging/options";
import { needsActivations } from "./merging/mergeGroup";
import { planReam } from "./merging/ream";
import { applyEditing, editingNeedsText } from "./editing/applyEditing";
import { planDelta, planMobe, planSvd, planTucker } from "./editing/editingPlan";
import { mobeForecast, svdForecast, tuckerForecast, weightedSvdForecast } from "./editing/forecast";
import { deltaOptions, mobeOptions, svdLlmOptions, svdOptions, tuckerOptions } from "./editing/options";
import type { MethodContext } from "./methodContext";
export type { MethodContext } from "./methodContext";
import { cfesOptions, naeeOptions, planCfes, planNaee } from "./pruning/searchPlans";
import { applyConstants, moneOptions, planMone, replacesByConstants } from "./pruning/constants";
import { eanOptions, isPruningCriterion, pruningCriteria, type PruningCriterionName } from "./pruning/criteria";
import { ablationForecast, cfesForecast, moneForecast, naeeForecast } from "./pruning/forecast";
import { applyNeurons, neuronsNeedText } from "./neurons/applyNeurons";
import { neuronsForecast } from "./neurons/forecast";
import { planNeurons } from "./neurons/neuronsPlan";
import { neuronsOptions } from "./neurons/options";
import { applyRouters } from "./routers/applyRouters";
import { planRouters, routerForecast, routerOptions, routerRoundingOptions } from "./routers/routerPruning";
import { applySparsity, sparsityNeedsText } from "./sparsity/applySparsity";
import { magnitudeForecast, sparseGptForecast, wandaForecast } from "./sparsity/forecast";
import { magnitudeOptions, sparseGptOptions, wandaOptions } from "./sparsity/options";
import { planMagnitude, planSparsity } from "./sparsity/sparsityPlan";
import { applyQuantisation, quantisationNeedsText } from "./quantising/applyQuantisation";
import { awqForecast, gptqForecast, nearestForecast } from "./quantising/forecast";
import { awqOptions, fp8Options, gptqOptions, mxfp4Options, rtnOptions } from "./quantising/options";
import { planQuantisation } from "./quantising/quantisationPlan";
import { layoutNeedsOfPlan, validateLayout } from "./plan/validateLayout";
import { validatePlan } from "./plan/validatePlan";

/** What a method looks at before it can make its plan. */
export interface MethodNeeds {
  /** The profile's routing statistics. */
  statistics: boolean;
  /** Calibration text that runs through the experts while planning or applying. */
  text: boolean;
}

/** One compression method. */
export interface MethodRow {
  paradigm: Paradigm;
  needs: MethodNeeds;
  options: z.ZodType<Record<string, unknown>>;
  /** What the pre-flight asks: work, memory and sizes from shapes alone. */
  forecast: MethodForecast;
  plan: (context: MethodContext) => Promise<CompressionPlan>;
}

function row<S extends z.ZodType<Record<string, unknown>>>(
  method: CompressionMethod,
  needs: MethodNeeds,
  options: S,
  forecast: MethodForecast,
  plan: (context: MethodContext, options: z.infer<S>) => CompressionPlan | Promise<CompressionPlan>,
): MethodRow {
  return {
    paradigm: paradigmOf(method),
    needs,
    options,
    forecast,
    plan: async (context) => plan(context, parseMethodOptions(method, options, context.options.options)),
  };
}

/** Every method but those that only score experts (pruning/criteria.ts). */
export const methods: Record<Exclude<CompressionMethod, PruningCriterionName>, MethodRow> = {
  cfes: row("cfes", { statistics: false, text: true }, cfesOptions, cfesForecast, planCfes),
  naee: row("naee", { statistics: false, text: true }, naeeOptions, naeeForecast, planNaee),
  mone: row("mone", { statistics: true, text: false }, moneOptions, moneForecast, planMone),
  ablation: row("ablation", { statistics: false, text: true }, ablationOptions, ablationForecast, planAblation),
  svd: row("svd", { statistics: false, text: false }, svdOptions, svdForecast, planSvd),
  "svd-llm": row("svd-llm", { statistics: false, text: true }, svdLlmOptions, weightedSvdForecast, planSvd),
  mobe: row("mobe", { statistics: false, text: false }, mobeOptions, mobeForecast, planMobe),
  "td-moe": row("td-moe", { statistics: false, text: true }, tuckerOptions, tuckerForecast, planTucker),
  "d2-moe": row("d2-moe", { statistics: false, text: true }, deltaOptions, weightedSvdForecast, planDelta),
  "m-smoe": row("m-smoe", { statistics: true, text: true }, mSmoeOptions, mSmoeForecast, planMSmoe),
  "hc-smoe": row("hc-smoe", { statistics: false, text: true }, hcSmoeOptions, hcSmoeForecast, planHcSmoe),
  ream: row("ream", { statistics: false, text: true }, reamOptions, reamForecast, planReam),
  magnitude: row("magnitude", { statistics: false, text: false }, magnitudeOptions, magnitudeForecast, planMagnitude),
  wanda: row("wanda", { statistics: false, text: true }, wandaOptions, wandaForecast, planSparsity),
  "moe-pruner": row("moe-pruner", { statistics: false, text: true }, wandaOptions, wandaForecast, planSparsity),
  sparsegpt: row("sparsegpt", { statistics: false, text: true }, sparseGptOptions, sparseGptForecast, planSparsity),
  neurons: row("neurons", { statistics: false, text: true }, neuronsOptions, neuronsForecast, planNeurons),
  "router-columns": row(
    "router-columns",
    { statistics: false, text: true },
    routerOptions,
    routerForecast,
    planRouters,
  ),
  "router-weights": row(
    "router-weights",
    { statistics: false, text: true },
    routerOptions,
    routerForecast,
    planRouters,
  ),
  "router-rtn": row(
    "router-rtn",
    { statistics: false, text: true },
    routerRoundingOptions,
    routerForecast,
    planRouters,
  ),
  rtn: row("rtn", { statistics: false, text: false }, rtnOptions, nearestForecast, planQuantisation),
  gptq: row("gptq", { statistics: false, text: true }, gptqOptions, gptqForecast, planQuantisation),
  awq: row("awq", { statistics: false, text: true }, awqOptions, awqForecast, planQuantisation),
  fp8: row("fp8", { statistics: false, text: false }, fp8Options, nearestForecast, planQuantisation),
  mxfp4: row("mxfp4", { statistics: false, text: false }, mxfp4Options, nearestForecast, planQuantisation),
};

/** Options that a method has beyond its ratio. */
export function optionsOf(method: CompressionMethod): z.ZodType<Record<string, unknown>> {
  if (!isPruningCriterion(method)) return methods[method].options;
  return method === "ean" ? budgetOptions.extend(eanOptions.shape) : budgetOptions;
}

/** What a method answers about itself from shapes alone. */
export function forecastOf(method: CompressionMethod): MethodForecast {
  return isPruningCriterion(method) ? pruningCriteria[method].forecast : methods[method].forecast;
}

/**
 * Decides what happens to each layer's experts.
 * @throws RerouteError arguments/invalid for a method or option there is not; plan/invalid for an impossible ratio
 */
export async function makePlan(context: MethodContext): Promise<CompressionPlan> {
  const { method } = context.options;
  if (isPruningCriterion(method)) {
    throw new RerouteError("internal", `${method} scores experts; its plan is made by makePruningPlan`);
  }
  return methods[method].plan(context);
}

/**
 * Makes the new weights that a plan asks for, staged on disk; null where the plan needs none (dropping experts copies
 * bytes).
 * @throws RerouteError plan/invalid or model/unsupported-option (storage that cannot be written back) before any work
 */
export async function applyPlan(
  context: MethodContext,
  plan: CompressionPlan,
): Promise<Map<number, CompressedLayer & LayerStage> | null> {
  validatePlan(plan, context.description, context.fingerprint);
  validateLayout(layoutNeedsOfPlan(plan), context.description);
  switch (plan.paradigm) {
    case "pruning":
      return replacesByConstants(plan) ? applyConstants(context, plan) : null;
    case "merging":
      return applyMerging(context, plan);
    case "editing":
      return applyEditing(context, plan);
    case "sparsity":
      return applySparsity(context, plan);
    case "neurons":
      return applyNeurons(context, plan);
    case "router":
      return applyRouters(context, plan);
    case "quantisation":
      return applyQuantisation(context, plan);
  }
}

/**
 * Refuses options that a method does not have.
 * @throws RerouteError arguments/invalid
 */
export function checkMethodOptions({ method, options, multipleOf }: CompressOptions): void {
  if (multipleOf !== undefined && paradigmOf(method) !== "pruning" && paradigmOf(method) !== "merging") {
    throw new RerouteError(
      "arguments/invalid",
      `The method ${method} keeps every expert, so there is no count to round; leave --multiple-of out${method === "neurons" ? " (its widths have the option multiple)" : ""}, or use a method that drops or merges experts`,
    );
  }
  parseMethodOptions(method, optionsOf(method), options);
}

/** What applying a plan measured, for reroute.json: `layer.<number>.<name>`. */
export function compressionMetrics(layers: ReadonlyMap<number, LayerStage> | null): Record<string, number> {
  return Object.fromEntries(
    [...(layers ?? [])].flatMap(([layer, { metrics }]) =>
      Object.entries(metrics).map(([name, value]) => [`layer.${layer}.${name}`, value]),
    ),
  );
}

/** Whether applying a plan runs calibration text through the experts. */
export function planNeedsText(plan: CompressionPlan): boolean {
  switch (plan.paradigm) {
    case "pruning":
      return replacesByConstants(plan);
    case "merging": {
      const options = appliedMergeOptions(plan);
      return needsActivations(options) || options.sequential;
    }
    case "editing":
      return editingNeedsText(plan);
    case "sparsity":
      return sparsityNeedsText(plan);
    case "neurons":
      return neuronsNeedText(plan);
    case "router":
      return true;
    case "quantisation":
      return quantisationNeedsText(plan);
  }
}

/** Where methods that have no budget of their own say how much goes where. */
const otherBudgets: Readonly<Record<string, string>> = {
  rtn: "Bits are given out by gptq and awq, with allocate",
};

/** @throws RerouteError arguments/invalid naming the option */
function parseMethodOptions<S extends z.ZodType<Record<string, unknown>>>(
  method: string,
  schema: S,
  options: CompressOptions["options"],
): z.infer<S> {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const unknown = issue.code === "unrecognized_keys" ? issue.keys : [];
  const name = [...issue.path, ...unknown.slice(0, 1)].join(".") || "?";
  const hint = unknown.includes("budget") && Object.hasOwn(otherBudgets, method) ? `. ${otherBudgets[method]!}` : "";
  throw new RerouteError(
    "arguments/invalid",
    `The method ${method} cannot use its option ${name}: ${issue.message}${hint}`,
  );
}
