import path from "node:path";
import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import type { PruningPlan } from "../../../protocol/plan";
import { contentKey } from "../../checkpoint/contentKey";
import { tokensRead } from "../../data/sequences";
import type { MoeDescription } from "../../model/description";
import { LayerEngine } from "../layer/layerEngine";
import { calibrationOf, collect, type MethodContext } from "../methodContext";
import { groupsOf, keptCount, selectKept } from "../plan/keptCount";
import { moeLayers } from "../../model/moeLayers";
import { predictionNotes } from "../plan/predictionLayers";
import { SavedValues } from "../savedValues";
import { outputTable, relativeError } from "../pruning/subsetError";
import { backwardSearch } from "../pruning/subsetSearch";
import { measureLayers } from "./modelEffects";

export const ablationOptions = z.strictObject({
  effect: z
    .enum(["kl", "loss", "local"])
    .default("kl")
    .describe("kl, loss: of the model's next-token distribution; local: of the layer's routed output"),
  interactions: z
    .enum(["none", "greedy"])
    .default("none")
    .describe("greedy: measured again after each expert that leaves (effect=local only)"),
  sequences: z.int().min(1).default(16).describe("Calibration sequences that are run without each expert"),
  maxTokens: z.int().min(1).default(2048).describe("With effect=local: tokens a layer that all experts see"),
});
type AblationOptions = z.infer<typeof ablationOptions>;

/** One layer's decision: who stays, and what the model or the layer loses without each expert. */
interface LayerEffects {
  layer: number;
  moe: MoeDescription;
  effects: number[];
  kept: number[];
  unused: number[];
}

/**
 * Pruning by ablation: the effect of each expert is what changes when it alone cannot be selected (its logit is -infinity, for
 * selection and for the weights of the others). The smallest effects leave.
 *
 * @throws RerouteError arguments/invalid for greedy interactions of model-level effects
 */
export async function planAblation(context: MethodContext, options: AblationOptions): Promise<PruningPlan> {
  if (options.interactions === "greedy" && options.effect !== "local") {
    throw new RerouteError(
      "arguments/invalid",
      `interactions=greedy measures every expert again after each removal, which only effect=local can afford; use --set effect=local`,
    );
  }
  requireOthers(context);
  const found =
    options.effect === "local" ? await localEffects(context, options) : await modelEffects(context, options);
  const { keep } = context.options;
  return {
    ...{ schemaVersion: 1, paradigm: "pruning", method: "ablation" },
    teacherFingerprint: context.fingerprint,
    seed: context.seed,
    options: { keep, ...options },
    notes: [...found.flatMap((layer) => notesOf(layer, options)), ...predictionNotes(context.description)],
    layers: Object.fromEntries(found.map(({ layer, kept, effects }) => [String(layer), { kept, scores: effects }])),
  };
}

/** ||y - y'||^2 / ||y||^2 of the routed output, from a table of all experts' outputs. */
async function localEffects(context: MethodContext, options: AblationOptions): Promise<LayerEffects[]> {
  const { description, options: compress, seed } = context;
  const found: LayerEffects[] = [];
  await collect(context, options.sequences, async (collected) => {
    const { moe, layer } = collected;
    const count = keptCount(compress, layer.index, moe);
    const engine = new LayerEngine(context.runtime, context.checkpoint, description.hiddenSize);
    try {
      const table = await outputTable(engine, collected, options.maxTokens, seed);
      const effects = moe.experts.map((_, e) => {
        const kept = new Uint8Array(moe.numExperts).fill(1);
        kept[e] = 0;
        return relativeError(table, kept);
      });
      const error = (kept: Uint8Array) => relativeError(table, kept);
      const search = { numExperts: moe.numExperts, count, routingGroups: groupsOf(moe), error };
      const kept =
        options.interactions === "greedy" ? backwardSearch(search, moe.numExperts).kept : keptBy(effects, count, moe);
      const used = new Set(collected.selectedIds);
      const unused = moe.experts.flatMap((__, e) => (used.has(e) ? [] : [e]));
      found.push({ layer: layer.index, moe, effects, kept, unused });
    } finally {
      await engine.close();
    }
  });
  return found;
}

/** KL of the vocabulary, or the change of the loss: a forward pass of the layers behind for each expert. */
async function modelEffects(context: MethodContext, options: AblationOptions): Promise<LayerEffects[]> {
  const sequences = calibrationOf(context, options.sequences);
  const progress = await savedEffects(context, options);
  const layers = moeLayers(context.description);
  const total = layers.reduce((sum, { moe }) => sum + moe.numExperts, 0);
  let done = 0;
  if (!layers.every(({ layer }) => progress.known(String(layer)))) {
    await measureLayers(context, sequences, async ({ index }, moe, measure) => {
      if (progress.known(String(index)) === null) {
        const effects: number[] = [];
        for (let e = 0; e < moe.numExperts; e++) {
          const { kl, loss } = await measure({ withoutExpert: e });
          effects.push(options.effect === "kl" ? kl : loss);
          const message = "Running the model without each expert";
          context.report?.({ stage: "compress", message, done: done + e + 1, total, unit: "steps" });
        }
        await progress.add(String(index), effects);
      }
      done += moe.numExperts;
    });
  }
  return layers.map(({ layer, moe }) => {
    const effects = progress.known(String(layer))!;
    const kept = keptBy(effects, keptCount(context.options, layer, moe), moe);
    // Nobody was sent there, so nothing changed, to the bit.
    return { layer, moe, effects, kept, unused: effects.flatMap((effect, e) => (effect === 0 ? [e] : [])) };
  });
}

function keptBy(effects: readonly number[], count: number, moe: MoeDescription): number[] {
  const protectedExperts = new Set<number>();
  return selectKept({ scores: effects, keepEnd: "highest", count, groups: groupsOf(moe), protectedExperts });
}

function notesOf({ layer, moe, effects, unused }: LayerEffects, { effect, sequences }: AblationOptions): string[] {
  const negative = effects.flatMap((value, e) => (value < 0 ? [`${e} (${value.toPrecision(2)})`] : []));
  return [
    ...(unused.length > 0
      ? [
          `layer ${layer}: ${unused.length} of ${moe.numExperts} experts never routed (${unused.join(", ")}) by ${sequences} sequences; ` +
            `without effect they leave first`,
        ]
      : []),
    ...(negative.length > 0
      ? [
          `layer ${layer}: without ${negative.length === 1 ? "this expert" : "any of these experts"} the ${effect === "loss" ? "loss is lower" : "effect is negative"}: ${negative.join(", ")}`,
        ]
      : []),
  ];
}

/** Without an expert the router must still find its top-k. */
function requireOthers({ description }: MethodContext): void {
  for (const { layer, moe } of moeLayers(description)) {
    if (moe.numExperts > moe.numExpertsPerToken) continue;
    throw new RerouteError(
      "plan/invalid",
      `Layer ${layer} has ${moe.numExperts} experts and selects ${moe.numExpertsPerToken} of them for every token, so none can be left out`,
    );
  }
}

/** Effects of finished layers, on disk: an interrupted ablation goes on with the next layer. */
function savedEffects(context: MethodContext, { effect, sequences }: AblationOptions): Promise<SavedValues<number[]>> {
  const text = tokensRead(calibrationOf(context, sequences));
  const { threads, provider } = context.runtime;
  const key = contentKey({ version: 1, fingerprint: context.fingerprint, effect, text, threads, provider });
  return SavedValues.open(path.join(context.stateDirectory, "ablation.json"), key);
}
