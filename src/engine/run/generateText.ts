import { RerouteError } from "../../protocol/errors";
import type { GenerationEvent, GenerationPrompt, GenerationResult, GenerationStart } from "../../protocol/generation";
import { loadChatTemplate } from "../data/chatTemplate";
import { leadingTokens } from "../data/leadingTokens";
import { loadDecoder, loadTokenizer } from "../data/tokenizer";
import { Decoder } from "../generation/decoder";
import { planDecoding } from "../generation/decodingPlan";
import { forecastGeneration } from "../generation/forecast";
import { generate } from "../generation/generate";
import { promptTokens } from "../generation/promptTokens";
import { generationSettings } from "../generation/settings";
import { availableMemoryBytes, runtimeOptions } from "./machine/machine";
import { requireChosenProvider } from "./machine/providerChoice";
import { openModel } from "./modelCache";

export interface GenerationHooks {
  signal?: AbortSignal | undefined;
  onEvent: (event: GenerationEvent) => void;
}

/**
 * Responses of a checkpoint to prompts. Says what a token costs before the first one.
 *
 * @throws RerouteError those of openModel, loadTokenizer, promptTokens, generationSettings, planDecoding and generate
 */
export async function generateText(
  start: Omit<GenerationStart, "prompts"> & { prompts: (GenerationPrompt & { where?: string })[] },
  { signal, onEvent }: GenerationHooks,
): Promise<GenerationResult> {
  const { checkpoint, description } = await openModel(start.checkpoint);
  const settings = await generationSettings(checkpoint, start.options);
  const directory = start.tokenizer ?? checkpoint.directory;
  const readers = {
    tokenizer: await loadTokenizer(directory),
    leading: await leadingTokens(directory),
    chat: () => loadChatTemplate(directory),
  };
  if (start.prompts.length === 0) throw new RerouteError("arguments/invalid", "There is no prompt; give at least one");
  const { vocabSize, maxPositionEmbeddings: contextLength } = description;
  const prompts = await promptTokens(start.prompts, readers, vocabSize, contextLength);
  const longest = prompts.reduce((most, { ids }) => Math.max(most, ids.length), 0);
  const lengthLimit = Math.min(contextLength, longest + settings.maxNewTokens);
  const provider = start.provider ?? "auto";
  await requireChosenProvider(provider);
  const runtime = runtimeOptions({
    provider,
    memory: start.memory,
    threads: start.threads,
  });
  const sequences = prompts.length * settings.samples;
  const plan = planDecoding(description, runtime.memoryBudgetBytes, lengthLimit, sequences);
  onEvent({
    kind: "planned",
    ...forecastGeneration(checkpoint, description, plan, sequences, availableMemoryBytes()),
  });
  const text = await loadDecoder(directory);
  const decoder = await Decoder.open({ checkpoint, description, runtime, plan });
  try {
    return await generate({ decoder, prompts, settings, contextLength, text, onEvent, signal });
  } finally {
    await decoder.close();
  }
}
