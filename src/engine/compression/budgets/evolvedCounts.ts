import path from "node:path";
import type { PruningPlan } from "../../../protocol/plan";
import { contentKey } from "../../checkpoint/contentKey";
import { nextTokens, tokenBatch } from "../../execution/batches";
import { ModelExecutor } from "../../execution/modelExecutor";
import { VocabularyHead } from "../../execution/vocabularyHead";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { createRandom } from "../../tensor/random";
import { meanOver } from "../ablation/modelEffects";
import { calibrationOf, hashSequences, type MethodContext } from "../methodContext";
import { withoutGroupLimits } from "../plan/groupLimits";
import { groupsOf } from "../plan/keptCount";
import { makePruningPlan, type PruningPlanRequest } from "../pruning/pruningPlan";
import { SavedValues } from "../savedValues";
import { candidates, evolve } from "./evolution";
import { budgetOf, expertBudgets } from "./expertCounts";

/**
 * A pruning plan whose numbers of experts by layer were searched: the order within a layer is the criterion's, and candidates are
 * measured by running the text through the model while the experts that would leave cannot be selected, which computes what the
 * pruned model would. Measured candidates are on disk, so that an interrupted search goes on with the next one.
 */
export async function evolvedPlan(context: MethodContext, request: PruningPlanRequest): Promise<PruningPlan> {
  const { description, runtime, checkpoint, stateDirectory, signal } = context;
  const budget = budgetOf(context.options);
  const layers = moeLayers(description);
  const planAt = (counts: readonly number[]) => makePruningPlan({ ...request, counts });
  const starts = expertBudgets.flatMap((name) => startOf(request, name));
  const sequences = calibrationOf(context, budget.sequences);
  const { fitness: by } = budget;
  const known = await SavedValues.open<number>(
    path.join(stateDirectory, "evolution.json"),
    contentKey({
      ...{ version: 1, fingerprint: context.fingerprint, by, text: hashSequences(sequences) },
      ...{ threads: runtime.threads, provider: runtime.provider },
    }),
  );
  const blocked = new Map<number, readonly number[]>();
  const open = (model: ModelDescription) =>
    ModelExecutor.open({
      ...{ checkpoint, description: model, runtime, sequenceLength: sequences.sequenceLength, blocked },
      ...{ scratchDirectory: stateDirectory, direction: "forward" },
    });
  // What is measured routes as the pruned model will; what it is compared with, as it does today.
  const drops = context.options.groupLimits === "drop" && layers.some(({ moe }) => groupsOf(moe) > 1);
  const original = await open(description);
  const executor = drops ? await open(withoutLimits(description)) : original;
  const source = { checkpoint, description };
  const shared = { source, sharedHead: true };
  const head = new VocabularyHead(source, original.sessions, original.plan.headPositions, shared, original.trained);
  const batch = tokenBatch(sequences);
  const { labels, isTarget } = nextTokens(sequences);
  const total = candidates(budget.population, budget.generations);
  let done = 0;
  try {
    using reference = await original.forward(batch, { signal });
    await head.normalise(reference, signal);
    const fitness = async (counts: readonly number[]): Promise<number> => {
      const plan = planAt(counts);
      const removed = layers.map(({ layer, moe }) => {
        const kept = new Set(plan.layers[String(layer)]!.kept);
        return moe.experts.flatMap((_, e) => (kept.has(e) ? [] : [e]));
      });
      const key = contentKey(removed);
      const saved = known.known(key);
      const value = saved ?? (await measure(removed));
      if (saved === null) await known.add(key, value);
      context.report?.({ stage: "compress", message: "Searching budgets", done: ++done, total, unit: "steps" });
      return value;
    };
    const measure = async (removed: readonly (readonly number[])[]): Promise<number> => {
      for (const [i, { layer }] of layers.entries()) blocked.set(layer, removed[i]!);
      using hidden = await executor.forward(batch, { signal });
      if (by === "esp") return meanOver(await head.overlap(hidden, reference, signal), isTarget);
      const { kl, nll } = await head.compare(hidden, reference, labels, signal);
      return -meanOver(by === "kl" ? kl : nll, isTarget);
    };
    const found = await evolve({
      start: starts,
      least: layers.map(({ moe }) => moe.numExpertsPerToken),
      most: layers.map(({ moe }) => moe.numExperts),
      population: budget.population,
      generations: budget.generations,
      random: createRandom(context.seed),
      fitness,
    });
    const plan = planAt(found.counts);
    const before = await fitness(starts[0]!);
    const word = { esp: "overlap with the unpruned model", kl: "-KL", loss: "-loss" }[by];
    const note =
      `the budget evoesap measured ${found.measured} budgets on ${sequences.numSequences} sequences: ` +
      `${word} ${found.fitness.toPrecision(5)}, ${before.toPrecision(5)} with the same number in every layer`;
    return { ...plan, notes: [note, ...(plan.notes ?? [])] };
  } finally {
    if (executor !== original) await executor.close();
    await original.close();
  }
}

function withoutLimits(description: ModelDescription): ModelDescription {
  const layers = description.layers.map((layer) =>
    layer.feedForward.kind === "moe" ? { ...layer, feedForward: withoutGroupLimits(layer.feedForward) } : layer,
  );
  return { ...description, layers };
}

/** What a simpler budget would keep; nothing where it needs what is not there. */
function startOf(request: PruningPlanRequest, budget: string): number[][] {
  const { options } = request;
  if (budget === "evoesap" || (budget !== "uniform" && request.statistics === null)) return [];
  try {
    const plan = makePruningPlan({ ...request, options: { ...options, options: { ...options.options, budget } } });
    return [Object.values(plan.layers).map(({ kept }) => kept.length)];
  } catch (error) {
    if (budget === "uniform") throw error;
    return [];
  }
}
