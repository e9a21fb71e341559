import type { ProviderChoice } from "./recipe";

/* Texts that a model writes: what is asked for, and what comes back. */

/** Why a response ended; at "max-new-tokens" and "context" it was cut. */
export type FinishReason = "end-token" | "stop-string" | "max-new-tokens" | "context";

export interface GenerationResponse {
  /** Index among the prompts, and among the responses to it. */
  prompt: number;
  sample: number;
  promptTokens: number;
  /** Without the end token. */
  ids: number[];
  /** Up to a stop string, without special tokens; null where ids alone were asked for. */
  text: string | null;
  finish: FinishReason;
}

export interface GenerationMetrics {
  sequences: number;
  /** Sequences that advanced together. */
  batchRows: number;
  promptTokens: number;
  prefillTokensPerSecond: number;
  /** From the first prompt's start, of the first batch. */
  secondsToFirstToken: number;
  newTokens: number;
  /** Passes through the model behind the prompts. */
  steps: number;
  /** Of all sequences together; a sequence gets `stepsPerSecond`. */
  decodeTokensPerSecond: number;
  stepsPerSecond: number;
  seconds: number;
  /** Keys, values and states at their largest. */
  cacheBytes: number;
  meanNewTokens: number;
  /** Share of the responses that the model ended itself. */
  endTokenShare: number;
}

/** What is known before the first token. */
export interface GenerationForecast {
  sequences: number;
  batchRows: number;
  /** Keys, values and states of one sequence at its longest. */
  cacheBytesPerSequence: number;
  /** Weights that one step reads, of experts those that are expected to have a token. */
  stepBytes: number;
  /** Seconds that reading them takes, where the model does not fit the memory and comes from the disk again; else null. */
  secondsPerStep: number | null;
}

export type GenerationEvent =
  | ({ kind: "planned" } & GenerationForecast)
  /** A token of a response, null for the end token; `text` may be empty, or hold what was held back before. */
  | { kind: "token"; prompt: number; sample: number; id: number | null; text: string }
  | { kind: "finished"; prompt: number; sample: number; finish: FinishReason };

/** A prompt: text as it is, or a conversation for the checkpoint's chat template. */
export type GenerationPrompt =
  { text: string } | { messages: { [key: string]: unknown; role: string; content: unknown }[]; tools?: unknown };

/** Settings under transformers' names; what is absent comes from generation_config.json, else from its defaults there. */
export interface GenerationOptions {
  maxNewTokens?: number;
  minNewTokens?: number;
  doSample?: boolean;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  repetitionPenalty?: number;
  stop?: string[];
  seed?: number;
  samples?: number;
}

export interface GenerationStart {
  /** Names the request in its events. */
  id: string;
  checkpoint: string;
  /** Folder with tokenizer and chat template; absent: the checkpoint. */
  tokenizer?: string;
  prompts: GenerationPrompt[];
  options: GenerationOptions;
  memory?: string;
  threads?: number;
  provider?: ProviderChoice;
}

export interface GenerationResult {
  responses: GenerationResponse[];
  metrics: GenerationMetrics;
}
