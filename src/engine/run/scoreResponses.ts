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

/**
 * ROUGE-L of sampled responses to instructions against their answers, over several seeds.
 * @throws RerouteError those of readDocuments and generateText; data/too-few-tokens where there is no instruction
 */
export async function scoreResponses(
  { checkpoint, tokenizer, data, column, most, seeds, options, ...machine }: ScoreRequest,
  { signal, onEvent }: GenerationHooks,
): Promise<ResponseScores> {
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
  const bySeed: ResponseScores["bySeed"] = [];
  for (const seed of seeds) {
    const { responses } = await generateText(
      {
        ...{ id: "score", checkpoint, ...(tokenizer === undefined ? {} : { tokenizer }), ...machine },
        ...{ prompts: rows.map(({ prompt }) => prompt), options: { doSample: true, ...options, seed } },
      },
      { signal, onEvent },
    );
    const scores = responses.map(({ prompt, text }) => bestRougeL(rows[prompt]!.references, text ?? "").f);
    bySeed.push({ seed, rougeL: (100 * scores.reduce((sum, f) => sum + f, 0)) / scores.length });
  }
  const mean = bySeed.reduce((sum, { rougeL }) => sum + rougeL, 0) / bySeed.length;
  const variance = bySeed.reduce((sum, { rougeL }) => sum + (rougeL - mean) ** 2, 0) / bySeed.length;
  return { prompts: rows.length, bySeed, mean, deviation: Math.sqrt(variance) };
}
