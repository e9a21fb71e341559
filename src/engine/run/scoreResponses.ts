import { RerouteError } from "../../protocol/errors";
import type { GenerationOptions, GenerationPrompt } from "../../protocol/generation";
import { readDocuments } from "../data/documents";
import { bestRougeL } from "../evaluation/rouge/rougeL";
import { generateText, type GenerationHooks } from "./generateText";
import { ModelCache } from "./modelCache";

export interface ScoreRequest {
  checkpoint: string;
  tokenizer?: string;
  /** Instructions with their answers; records with the same instruction are references of one. */
  data: string;
  column?: string | undefined;
  /** Instructions used, in file order. */
  most: number;
  seeds: readonly number[];
  options: Omit<GenerationOptions, "seed" | "samples">;
  memory?: string;
  threads?: number;
}

export interface ResponseScores {
  prompts: number;
  /** Mean ROUGE-L F of the responses times 100, of each seed. */
  bySeed: { seed: number; rougeL: number }[];
  mean: number;
  /** Population standard deviation over the seeds. */
  deviation: number;
}

/** Instructions with the answers to each. */
export interface Instructions {
  prompts: GenerationPrompt[];
  references: string[][];
}

/**
 * Instructions of a file with their answers, as the checkpoint's chat template writes them.
 * @throws RerouteError those of readDocuments; data/too-few-tokens where there is no instruction
 */
export async function readInstructions({
  checkpoint,
  tokenizer,
  data,
  column,
  most,
}: Pick<ScoreRequest, "checkpoint" | "tokenizer" | "data" | "column" | "most">): Promise<Instructions> {
  const { chat } = new ModelCache().textReaders(tokenizer ?? checkpoint);
  const asked = new Map<string, { prompt: GenerationPrompt; references: string[] }>();
  for await (const document of readDocuments(data, { column, chat, splitsAnswers: true })) {
    if (!("text" in document) || !document.answer) continue;
    const { prompt, isRendered, conversation, response } = document.answer;
    const known = asked.get(prompt);
    if (known) known.references.push(response);
    else if (asked.size < most) {
      const asMessages =
        isRendered && conversation ? { ...conversation, tools: conversation.tools ?? undefined } : null;
      asked.set(prompt, { prompt: asMessages ?? { text: prompt }, references: [response] });
    }
  }
  const rows = [...asked.values()];
  if (rows.length === 0) throw new RerouteError("data/too-few-tokens", `${data} holds no instruction with an answer`);
  return { prompts: rows.map(({ prompt }) => prompt), references: rows.map(({ references }) => references) };
}

/**
 * ROUGE-L of sampled responses to instructions against their answers, over several seeds.
 * @throws RerouteError those of readInstructions and generateText
 */
export async function scoreResponses(
  request: ScoreRequest,
  { signal, onEvent }: GenerationHooks,
): Promise<ResponseScores> {
  const { checkpoint, tokenizer, seeds, options, memory, threads } = request;
  const machine = { ...(memory === undefined ? {} : { memory }), ...(threads === undefined ? {} : { threads }) };
  const { prompts, references } = await readInstructions(request);
  const bySeed: ResponseScores["bySeed"] = [];
  for (const seed of seeds) {
    const { responses } = await generateText(
      {
        ...{ id: "score", checkpoint, ...(tokenizer === undefined ? {} : { tokenizer }), ...machine },
        ...{ prompts, options: { doSample: true, ...options, seed } },
      },
      { signal, onEvent },
    );
    const scores = responses.map(({ prompt, text }) => bestRougeL(references[prompt]!, text ?? "").f);
    bySeed.push({ seed, rougeL: (100 * scores.reduce((sum, f) => sum + f, 0)) / scores.length });
  }
  return { prompts: prompts.length, bySeed, ...meanAndDeviation(bySeed.map(({ rougeL }) => rougeL)) };
}

/** Mean and population standard deviation. */
export function meanAndDeviation(scores: readonly number[]): { mean: number; deviation: number } {
  const mean = scores.reduce((sum, score) => sum + score, 0) / scores.length;
  const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / scores.length;
  return { mean, deviation: Math.sqrt(variance) };
}
