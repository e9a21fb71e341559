import type { RouterPlan } from "../../../protocol/plan";
import { readFloat32 } from "../../checkpoint/read";
import { tensorFromBytes } from "../../checkpoint/tensorSource";
import { sliceSequences } from "../../data/sequences";
import type { CollectedLayer } from "../../execution/collectLayers";
import { selectExperts } from "../../model/selection";
import { compareRouting } from "../../routing/fidelity";
import { decodeFloats, encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import { roundedValues } from "../../weights/roundIntegers";
import { measureLayers } from "../ablation/modelEffects";
import {
  compressLayers,
  neverRoutedNotes,
  type LayerAtHand,
  type LayerWork,
  type StagedLayer,
} from "../layer/compressLayers";
import { addSquares } from "../layer/expertInputs";
import { chunks, LayerEngine } from "../layer/layerEngine";
import { correctionBias, readVector } from "../layer/outputError";
import type { LayerStage } from "../layer/stage";
import { inPlace } from "../layer/stagedExperts";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { appliedRouterOptions, prunedRouter } from "./routerPruning";

/** Prunes or rounds every layer's router, with what that does to its routing and to what the model says. */
export async function applyRouters(
  // What is measured of the whole model needs all layers here, and they are little work.
  { elsewhere: _, ...context }: MethodContext,
  plan: RouterPlan,
): Promise<Map<number, StagedLayer>> {
  const options = appliedRouterOptions(plan);
  const data = hashSequences(calibrationOf(context, options.sequences));
  const { fingerprint } = context;
  const { method, layers } = plan;
  if (!Object.values(layers).some(({ keep, bits }) => keep < 1 || bits !== undefined)) return new Map();
  const done = await compressLayers({
    ...{ context, sequences: options.sequences, readsText: true, sequential: false },
    inputs: (layer) => ({
      ...{ version: 1, fingerprint, layer, method, ...layers[String(layer)]!, score: options.score, data },
    }),
    prepare: (at) => prepare(context, method, layers[String(at.layer)]!, options.score === "activations", at),
    // The router takes the place of the stored one; experts stay.
    result: (_, moe, stage) => ({
      ...{ ...stage, notes: [...stage.notes], staged: stage.tensors, outcome: inPlace(moe) },
      replaced: new Set(stage.tensors.keys()),
    }),
  });
  if (options.effectSequences > 0) await measureVocabulary(context, options.effectSequences, done);
  for (const [layer, { metrics, notes }] of done) notes.push(tableRow(layer, metrics));
  return done;
}

async function prepare(
  context: MethodContext,
  method: RouterPlan["method"],
  { keep, bits, group }: RouterPlan["layers"][string],
  byInputs: boolean,
  { moe, collected }: LayerAtHand,
): Promise<LayerWork> {
  const seen = collected!;
  const H = context.description.hiddenSize;
  const { weight } = moe.router;
  const own = await readVector(context.checkpoint, weight);
  const squares = new Float64Array(H);
  for (const [from, to] of chunks(seen.numTokens)) addSquares(squares, seen.inputs.read(from, to), null);
  const means = squares.map((sum) => sum / Math.max(1, seen.numTokens));
  const { dtype, shape } = context.checkpoint.tensors.get(weight.tensor)!;
  const type = dtype as WritableFloat;
  const grid = bits && ({ bits, group: group || H, scaleType: "F32" } as const);
  const changed = grid
    ? roundedValues(own, own.length / H, H, grid)
    : prunedRouter(method, own, byInputs ? means : null, H, keep);
  // What is stored is what is measured.
  const bytes = () => encodeFloats(changed, type);
  const pruned = decodeFloats(bytes(), type);
  return {
    tensors: [tensorFromBytes({ name: weight.tensor, dtype, shape }, bytes)],
    runnable: () => null,
    found: async () => ({
      metrics: await routingChange(context, seen, own, pruned),
      notes: neverRoutedNotes(seen, "the table says nothing about them"),
    }),
  };
}

/** Top-k overlap, share of tokens with the same set, and KL of the routing probabilities (softmax of the logits), nats. */
async function routingChange(
  context: MethodContext,
  { moe, inputs, numTokens, routerLogits, selectedIds }: CollectedLayer,
  before: Float32Array,
  after: Float32Array,
): Promise<Record<string, number>> {
  const { numExperts: E, numExpertsPerToken: k } = moe;
  const H = context.description.hiddenSize;
  const change = after.map((value, i) => value - before[i]!);
  const bias = await correctionBias(context.checkpoint, moe);
  const mapping = moe.experts.map((_, e) => [e]);
  const engine = new LayerEngine(context.runtime, context.checkpoint, H);
  let [overlap, same, kl] = [0, 0, 0];
  try {
    for (const [from, to] of chunks(numTokens)) {
      const logits = await engine.timesTransposed(inputs.read(from, to), change, H);
      const teacherLogits = routerLogits.subarray(from * E, to * E);
      for (let i = 0; i < logits.length; i++) logits[i]! += teacherLogits[i]!;
      const studentSelected = new Int32Array((to - from) * k);
      selectExperts(moe.routing, logits, to - from, E, k, bias, studentSelected);
      const compared = compareRouting(
        {
          ...{
            numTokens: to - from,
            teacherLogits,
            studentLogits: logits,
            studentSelected,
            teacherTopK: k,
            studentTopK: k,
          },
          teacherSelected: selectedIds.subarray(from * k, to * k),
        },
        mapping,
      );
      for (let t = 0; t < to - from; t++) {
        overlap += compared.overlap[t]!;
        if (compared.overlap[t] === 1) same++;
        kl += compared.kl[t]!;
      }
    }
  } finally {
    await engine.close();
  }
  const tokens = Math.max(1, numTokens);
  return { topKOverlap: overlap / tokens, exactSet: same / tokens, routingKl: kl / tokens };
}

/** KL of the vocabulary with one pruned router at a time, from what was staged. */
async function measureVocabulary(
  context: MethodContext,
  count: number,
  done: ReadonlyMap<number, LayerStage>,
): Promise<void> {
  const all = calibrationOf(context, count);
  const sequences = all.numSequences > count ? sliceSequences(all, 0, count) : all;
  await measureLayers(context, sequences, async ({ index }, { router }, measure) => {
    const { tensors, metrics } = done.get(index)!;
    metrics["vocabularyKl"] = (await measure({ router: await readFloat32(tensors.get(router.weight.tensor)!) })).kl;
  });
}

function tableRow(layer: number, { topKOverlap, exactSet, routingKl, vocabularyKl }: Record<string, number>): string {
  const percent = (share: number | undefined) => `${(100 * (share ?? 0)).toFixed(1)} %`;
  const vocabulary = vocabularyKl === undefined ? "" : `, KL of the vocabulary ${vocabularyKl.toPrecision(3)}`;
  return (
    `layer ${layer}, its router alone: top-k overlap ${percent(topKOverlap)}, the same set for ${percent(exactSet)} of the tokens, ` +
    `KL of routing ${(routingKl ?? 0).toPrecision(3)} nats${vocabulary}`
  );
}
