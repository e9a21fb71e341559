import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { RouterPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import type { ModelDescription } from "../../model/description";
import { noCost, numberOf, type MethodForecast } from "../cost/layerCost";
import { requirePlain } from "../layer/expertMatrices";
import type { MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { leavingCount, lowest } from "../sparsity/masks";

export const routerOptions = z.strictObject({
  score: z
    .enum(["activations", "magnitude"])
    .default("activations")
    .describe("activations: weights times the root mean square of their input (Wanda's); magnitude: weights alone"),
  sequences: z.int().min(1).default(64).describe("Calibration sequences for scores and for the table of each layer"),
  effectSequences: z
    .int()
    .min(0)
    .default(16)
    .describe("Of these, sequences on which the vocabulary's KL is measured, router by router; 0: not measured"),
});
type RouterOptions = z.infer<typeof routerOptions>;

const { sequences, effectSequences } = routerOptions.shape;
export const routerRoundingOptions = z.strictObject({
  bits: z
    .union([z.literal(8), z.literal(6), z.literal(4)])
    .default(8)
    .describe("Bits of a weight; 8 are nearly free, 4 cost as much as 4 bits of all experts"),
  group: z.int().min(0).default(0).describe("Inputs that share a scale: a divisor of the width; 0: one scale a row"),
  ...{ sequences, effectSequences },
});

const applied = routerOptions.loose();

/** @throws RerouteError plan/invalid for a value that the plan's options cannot have */
export function appliedRouterOptions({ options }: RouterPlan): RouterOptions {
  const parsed = applied.safeParse(options ?? {});
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError("plan/invalid", `The plan's option ${issue.path.join(".")} cannot be used: ${issue.message}`);
}

/** One share for all routers. What leaves is chosen when the plan is applied. */
export function planRouters(
  context: MethodContext,
  options: RouterOptions | z.infer<typeof routerRoundingOptions>,
): RouterPlan {
  const { description, fingerprint, seed, checkpoint } = context;
  const plan = anyRouterPlan(description, context.options);
  const routers = moeLayers(description).reduce(
    (sum, { moe }) => sum + checkpoint.tensors.get(moe.router.weight.tensor)!.byteLength,
    0,
  );
  const all = [...checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  return {
    ...plan,
    ...{ teacherFingerprint: fingerprint, seed },
    options: "bits" in options ? options : { keep: context.options.keep, ...options },
    notes: [
      `routers are ${((100 * routers) / all).toPrecision(2)} % of the checkpoint and ${"bits" in options ? "rounded weights" : "zeros"} are stored like other numbers: this saves nothing worth having; it shows how sensitive routing is`,
    ],
  };
}

function anyRouterPlan(description: ModelDescription, { method, keep, options }: CompressOptions): RouterPlan {
  const rounds = method === "router-rtn";
  if (!rounds && keep > 1) {
    throw new RerouteError(
      "plan/invalid",
      `keep is ${keep}, but ${method} zeroes inputs or weights of routers; give a share up to 1`,
    );
  }
  if (!rounds && keep * description.hiddenSize < 0.5) {
    throw new RerouteError(
      "plan/invalid",
      `A share of ${keep} keeps none of the ${description.hiddenSize} inputs of a router; use a larger one`,
    );
  }
  for (const { layer, moe } of moeLayers(description)) {
    requirePlain(moe.router.weight, method);
    if (rounds) checkRouterGroup(Number(options["group"] ?? 0), description.hiddenSize);
    if (moe.router.input === undefined) continue;
    throw new RerouteError(
      "model/unsupported-option",
      `The router of layer ${layer} of this ${description.family} checkpoint reads hidden states that its experts do not, which ${method} does not look at`,
    );
  }
  return {
    ...{ schemaVersion: 1, paradigm: "router", method },
    layers: Object.fromEntries(
      moeLayers(description).map(({ layer }) => [String(layer), rounds ? roundedLayer(options) : { keep }]),
    ),
  };
}

function roundedLayer({ bits = 8, group = 0 }: CompressOptions["options"]): RouterPlan["layers"][string] {
  return { keep: 1, bits: bits as 4 | 6 | 8, group: Number(group) };
}

/** @throws RerouteError model/unsupported-option naming groups that divide the width */
export function checkRouterGroup(group: number, columns: number): void {
  if (group === 0 || columns % group === 0) return;
  const fitting = [16, 32, 64, 128, 256].filter((one) => columns % one === 0);
  throw new RerouteError(
    "model/unsupported-option",
    `A group of ${group} inputs does not divide the ${columns} inputs of a router; use ${[...fitting, "0 (a scale a row)"].join(", ")}`,
  );
}

export const routerForecast: MethodForecast = {
  passes: ({ effectSequences, sequences }, description) => {
    if (effectSequences === 0) return 1;
    const { length } = description.layers;
    const depth = moeLayers(description).reduce((sum, { layer }) => sum + (length - layer) / length, 3);
    return (
      1 +
      (depth * numberOf({ effectSequences: effectSequences ?? 16 }, "effectSequences", 16)) /
        numberOf({ sequences: sequences ?? 64 }, "sequences", 64)
    );
  },
  sequences: 64,
  layer: ({ K, H, T }) => ({ ...noCost, float32: 2 * T * K * H, plain: 40 * K * H + T * (2 * H + 30 * K) }),
  anyPlan: anyRouterPlan,
};

/**
 * A router [rows, hidden] with its least important weights at zero, a copy:
 * - `router-columns`: whole inputs, score_j = sum_e w_ej^2 E[x_j^2]
 * - `router-weights`: within each row, |w_ej| sqrt(E[x_j^2])
 *
 * @param meanSquares [hidden] E[x_j^2]; null: 1
 */
export function prunedRouter(
  method: string,
  router: Float32Array,
  meanSquares: Float64Array | null,
  hidden: number,
  keep: number,
): Float32Array {
  const result = router.slice();
  const count = leavingCount(hidden, keep);
  const squares = (j: number) => (meanSquares === null ? 1 : meanSquares[j]!);
  if (method === "router-columns") {
    const scores = new Float64Array(hidden);
    for (let i = 0; i < router.length; i++) scores[i % hidden]! += router[i]! ** 2 * squares(i % hidden);
    const leaves = lowest(scores, count);
    for (let i = 0; i < result.length; i++) if (leaves[i % hidden] === 1) result[i] = 0;
    return result;
  }
  for (let from = 0; from < result.length; from += hidden) {
    const scores = Float64Array.from({ length: hidden }, (_, j) => Math.abs(router[from + j]!) * Math.sqrt(squares(j)));
    const leaves = lowest(scores, count);
    for (let j = 0; j < hidden; j++) if (leaves[j] === 1) result[from + j] = 0;
  }
  return result;
}
