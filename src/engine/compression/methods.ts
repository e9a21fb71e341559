import type { z } from "zod";
import { RerouteError } from "../../protocol/errors";
import type { CompressionPlan } from "../../protocol/plan";
import { paradigmOf, type CompressionMethod, type CompressOptions, type Paradigm } from "../../protocol/recipe";
import type { CompressedLayer } from "./layer/compressedTensors";
import type { LayerStage } from "./layer/stage";
import { applyMerging } from "./merging/applyMerging";
import { planHcSmoe, planMSmoe } from "./merging/mergingPlan";
import { appliedMergeOptions, hcSmoeOptions, mSmoeOptions, reamOptions } from "./merging/options";
import { needsActivations } from "./merging/mergeGroup";
import { planReam } from "./merging/ream";
import type { MethodContext } from "./methodContext";
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
  plan: (context: MethodContext) => Promise<CompressionPlan>;
}

function row<S extends z.ZodType<Record<string, unknown>>>(
  method: CompressionMethod,
  needs: MethodNeeds,
  options: S,
  plan: (context: MethodContext, options: z.infer<S>) => CompressionPlan | Promise<CompressionPlan>,
): MethodRow {
  return {
    paradigm: paradigmOf(method),
    needs,
    options,
    plan: async (context) => plan(context, parseMethodOptions(method, options, context.options.options)),
  };
}

export const methods: Partial<Record<CompressionMethod, MethodRow>> = {
  "m-smoe": row("m-smoe", { statistics: true, text: true }, mSmoeOptions, planMSmoe),
  "hc-smoe": row("hc-smoe", { statistics: false, text: true }, hcSmoeOptions, planHcSmoe),
  ream: row("ream", { statistics: false, text: true }, reamOptions, planReam),
};

/**
 * Decides what happens to each layer's experts.
 * @throws RerouteError arguments/invalid for a method or option there is not; plan/invalid for an impossible ratio
 */
export async function makePlan(context: MethodContext): Promise<CompressionPlan> {
  const found = methods[context.options.method];
  if (!found) throw new RerouteError("arguments/invalid", `The method ${context.options.method} is not offered`);
  return found.plan(context);
}

/**
 * Makes the new weights that a plan asks for, staged on disk; null where the plan needs none (dropping experts copies
 * bytes).
 * @throws RerouteError plan/invalid before any work
 */
export async function applyPlan(
  context: MethodContext,
  plan: CompressionPlan,
): Promise<Map<number, CompressedLayer & LayerStage> | null> {
  validatePlan(plan, context.description, context.fingerprint);
  switch (plan.paradigm) {
    case "pruning":
      return null;
    case "merging":
      return applyMerging(context, plan);
    case "editing":
      throw new RerouteError("plan/invalid", "editing plans are not offered");
  }
}

/** Whether applying a plan runs calibration text through the experts. */
export function planNeedsText(plan: CompressionPlan): boolean {
  if (plan.paradigm !== "merging") return false;
  const options = appliedMergeOptions(plan);
  return needsActivations(options) || options.sequential;
}

/** @throws RerouteError arguments/invalid naming the option */
function parseMethodOptions<S extends z.ZodType<Record<string, unknown>>>(
  method: string,
  schema: S,
  options: CompressOptions["options"],
): z.infer<S> {
  const parsed = schema.safeParse(options);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const name = issue.path.join(".") || "?";
  throw new RerouteError("arguments/invalid", `The method ${method} cannot use its option ${name}: ${issue.message}`);
}
