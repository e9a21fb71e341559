import path from "node:path";
import { contentKey } from "../../checkpoint/contentKey";
import type { TokenSequences } from "../../data/sequences";
import { nextTokens, tokenBatch } from "../../execution/batches";
import type { HiddenStates } from "../../execution/hiddenStates";
import type { ModelExecutor } from "../../execution/modelExecutor";
import type { TokenBatch } from "../../execution/passOptions";
import { VocabularyHead } from "../../execution/vocabularyHead";
import { createRandom } from "../../tensor/random";
import { meanOver } from "../ablation/modelEffects";
import { hashSequences, type MethodContext } from "../methodContext";
import { SavedValues } from "../savedValues";
import { candidates, evolve, type BudgetSpace, type Evolved } from "./evolution";
import type { SearchOptions } from "./searchOptions";

/** What is shared out among layers, and how a candidate runs. */
export interface MeasuredSearch {
  space: BudgetSpace;
  /** Budgets to begin with; the first is what the result is compared with, which `first` names. */
  start: readonly (readonly number[])[];
  first: string;
  options: SearchOptions;
  sequences: TokenSequences;
  /** What decides a candidate's value beside the model, the text and its name. */
  decides: Readonly<Record<string, unknown>>;
  /** What a candidate changes; the same is not measured again, also after an interruption. */
  nameOf: (counts: readonly number[]) => unknown;
  /** The unchanged model; its sessions also serve the vocabulary head. */
  original: ModelExecutor;
  /** Final hidden states of the text through a candidate; the search closes them. */
  run: (counts: readonly number[], batch: TokenBatch) => Promise<HiddenStates>;
}

/**
 * The best budget that an evolutionary search finds by running the text through each candidate, and a note that says so. Measured
 * candidates are on disk, so that an interrupted search goes on with the next one.
 */
export async function measuredSearch(
  context: MethodContext,
  { space, start, first, options, sequences, decides, nameOf, original, run }: MeasuredSearch,
): Promise<Evolved & { note: string }> {
  const { checkpoint, description, fingerprint, runtime, stateDirectory, signal } = context;
  const { fitness: by, population, generations } = options;
  const known = await SavedValues.open<number>(
    path.join(stateDirectory, "evolution.json"),
    contentKey({
      ...{ version: 2, fingerprint, by, ...decides, text: hashSequences(sequences) },
      ...{ threads: runtime.threads, provider: runtime.provider },
    }),
  );
  const source = { checkpoint, description };
  const shared = { source, sharedHead: true };
  const head = new VocabularyHead(source, original.sessions, original.plan.headPositions, shared, original.trained);
  const batch = tokenBatch(sequences);
  const { labels, isTarget } = nextTokens(sequences);
  const total = candidates(population, generations);
  let done = 0;
  using reference = await original.forward(batch, { signal });
  await head.normalise(reference, signal);
  const measure = async (counts: readonly number[]): Promise<number> => {
    using hidden = await run(counts, batch);
    if (by === "esp") return meanOver(await head.overlap(hidden, reference, signal), isTarget);
    const { kl, nll } = await head.compare(hidden, reference, labels, signal);
    return -meanOver(by === "kl" ? kl : nll, isTarget);
  };
  const fitness = async (counts: readonly number[]): Promise<number> => {
    const key = contentKey(nameOf(counts));
    const saved = known.known(key);
    const value = saved ?? (await measure(counts));
    if (saved === null) await known.add(key, value);
    context.report?.({ stage: "compress", message: "Searching budgets", done: ++done, total, unit: "steps" });
    return value;
  };
  const found = await evolve({
    ...{ ...space, start, population, generations, fitness },
    random: createRandom(context.seed),
  });
  const before = await fitness(start[0]!);
  const word = { esp: "overlap with the original model", kl: "-KL", loss: "-loss" }[by];
  const note =
    `the search evoesap measured ${found.measured} budgets on ${sequences.numSequences} sequences: ` +
    `${word} ${found.fitness.toPrecision(5)}, ${before.toPrecision(5)} with ${first}`;
  return { ...found, note };
}
