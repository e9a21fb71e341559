import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { maxScoredTokens, type GenerationModel, type ScoredText, type ScoringStart } from "../../protocol/scoring";
import { mappingOfMade } from "../compression/plan/expertMapping";
import { chatTemplateSource, loadChatTemplate } from "../data/chatTemplate";
import { leadingTokens } from "../data/leadingTokens";
import { tokenizerDifference } from "../data/sameTokenizer";
import { loadTokenizer, pieceDecoder } from "../data/tokenizer";
import { planDecoding } from "../generation/decodingPlan";
import { checkTokenIds } from "../generation/decoder";
import { forecastGeneration } from "../generation/forecast";
import { promptTokens } from "../generation/promptTokens";
import { generationSettings } from "../generation/settings";
import { moeLayers } from "../model/moeLayers";
import { availableMemoryBytes, runtimeOptions } from "./machine/machine";
import { requireChosenProvider } from "./machine/providerChoice";
import { openModel } from "./modelCache";
import { readProvenance } from "./stages/outputs";

/** Tokens of a prompt that a forecast counts with: what they keep is little beside what a response may. */
const usualPrompt = 512;

/**
 * What generating with a checkpoint takes, before anything runs: headers, settings, and a measurement of its disk.
 * @throws RerouteError those of openModel, generationSettings and planDecoding; data/tokenizer
 */
export async function describeForGeneration(request: {
  checkpoint: string;
  teacher?: string;
  memory?: string;
}): Promise<GenerationModel> {
  const { checkpoint, description, family } = await openModel(request.checkpoint);
  const { directory } = checkpoint;
  const {
    endIds: _,
    stop: _stop,
    seed: _seed,
    samples: _samples,
    ...defaults
  } = await generationSettings(checkpoint, {});
  const contextLength = description.maxPositionEmbeddings;
  const lengthLimit = Math.min(contextLength, usualPrompt + defaults.maxNewTokens);
  const { memoryBudgetBytes } = runtimeOptions({ provider: "cpu", memory: request.memory });
  const plan = planDecoding(description, memoryBudgetBytes, lengthLimit, 1);
  await loadTokenizer(directory);
  return {
    ...{ family: family.modelType, contextLength, defaults },
    hasChatTemplate: (await chatTemplateSource(directory)) !== null,
    moeLayers: moeLayers(description).map(({ layer }) => layer),
    forecast: forecastGeneration(checkpoint, description, plan, 1, availableMemoryBytes()),
    tokenizerDifference: request.teacher === undefined ? null : await tokenizerDifference(request.teacher, directory),
  };
}

/**
 * Responses scored by every model, token by token.
 * @throws RerouteError arguments/invalid for too many tokens, data/tokenizer where tokenizers differ; those of openModel,
 * promptTokens and scoreTexts
 */
export async function scoreSideBySide(
  start: Omit<ScoringStart, "id">,
  hooks: { signal?: AbortSignal | undefined; onTokens?: (done: number, total: number) => void },
): Promise<ScoredText[]> {
  const { models: directories, teacher } = start;
  for (const directory of directories) {
    const difference = await tokenizerDifference(directories[teacher ?? 0]!, directory);
    if (difference === null) continue;
    throw new RerouteError(
      "data/tokenizer",
      `The tokenizers of ${directories[teacher ?? 0]!} and ${directory} differ (${difference}), so that the same tokens mean different texts; ` +
        "compare checkpoints that share one",
    );
  }
  const models = await Promise.all(directories.map(openModel));
  const texts = await Promise.all(start.texts.map((text) => tokensOf(text, directories[text.author]!, models)));
  const provider = start.provider ?? "auto";
  await requireChosenProvider(provider);
  const runtime = runtimeOptions({ provider, memory: start.memory, threads: start.threads });
  const taught = teacher === null ? null : models[teacher]!;
  const mappings = await Promise.all(
    directories.map(async (directory, m) =>
      taught === null || m === teacher ? null : mappingOfMade(taught.description, await readProvenance(directory)),
    ),
  );
  const scratchDirectory = await mkdtemp(path.join(tmpdir(), "reroute-score-"));
  try {
    const { scoreTexts } = await import("../evaluation/scoreTexts");
    const scored = await scoreTexts({ models, teacher, texts, mappings, runtime, scratchDirectory, ...hooks });
    const piecesOf = await pieceDecoder(directories[0]!);
    return texts.map(({ ids, promptTokens: count }, t) => ({
      promptTokens: count,
      pieces: piecesOf([...ids.subarray(count)]),
      models: scored[t]!,
    }));
  } finally {
    await rm(scratchDirectory, { recursive: true, force: true });
  }
}

/** Prompt and response as one. @throws RerouteError arguments/invalid */
async function tokensOf(
  { prompt, ids: response, author }: ScoringStart["texts"][number],
  directory: string,
  models: readonly Awaited<ReturnType<typeof openModel>>[],
): Promise<{ ids: Int32Array; promptTokens: number }> {
  const { vocabSize, maxPositionEmbeddings } = models[author]!.description;
  const readers = {
    tokenizer: await loadTokenizer(directory),
    leading: await leadingTokens(directory),
    chat: () => loadChatTemplate(directory),
  };
  const [tokens] = await promptTokens([prompt], readers, vocabSize, maxPositionEmbeddings);
  const ids = Int32Array.from([...tokens!.ids, ...response]);
  const most = Math.min(maxScoredTokens, ...models.map(({ description }) => description.maxPositionEmbeddings));
  if (ids.length > most) {
    throw new RerouteError(
      "arguments/invalid",
      `A prompt and its response have ${ids.length} tokens, and at most ${most} are compared; ask for fewer new tokens`,
    );
  }
  for (const { description } of models) checkTokenIds(ids, description.vocabSize, "the response");
  return { ids, promptTokens: tokens!.ids.length };
}
