import type { GenerationForecast, GenerationOptions, GenerationPrompt } from "./generation";
import type { ProviderChoice } from "./recipe";

/* What checkpoints say of each other's responses: the Playground's numbers, token by token. */

/** Tokens of a prompt and its response together that are scored. */
export const maxScoredTokens = 4096;
/** Checkpoints side by side, each with a response. */
export const maxSideBySide = 3;

/** What generation needs to know of a checkpoint before it is asked anything. */
export interface GenerationModel {
  family: string;
  contextLength: number;
  hasChatTemplate: boolean;
  /** Settings where nobody names any: generation_config.json, else transformers' own. */
  defaults: Required<Omit<GenerationOptions, "seed" | "samples" | "stop">>;
  /** Decoder layers with a router, in order, as scores number them; empty for a dense checkpoint. */
  moeLayers: number[];
  forecast: GenerationForecast;
  /** Where its tokenizer differs from the teacher's; null: nowhere, or no teacher was named. */
  tokenizerDifference: string | null;
}

export interface ScoringStart {
  /** Names the request in its events. */
  id: string;
  /** Checkpoint folders; at most {@link maxSideBySide}. */
  models: string[];
  /** Index of the teacher among them; null: nothing is compared. */
  teacher: number | null;
  /** `author`: index of the model whose tokenizer and chat template made the prompt. */
  texts: { author: number; prompt: GenerationPrompt; ids: number[] }[];
  memory?: string;
  threads?: number;
  provider?: ProviderChoice;
}

/** One response, teacher-forced: every model reads the same tokens. R tokens of the response. */
export interface ScoredText {
  promptTokens: number;
  /** [R] text of each token by itself. */
  pieces: string[];
  /** In the order of the request's models. */
  models: ScoredByModel[];
}

export interface ScoredByModel {
  /** [R] -ln p(token), nats. */
  nll: number[];
  /** [R] KL(teacher || this model) of the distributions that the token was drawn from, nats; null of the teacher itself. */
  kl: number[] | null;
  /** By MoE layer: where the token itself went. */
  routing: ScoredRouting[];
}

export interface ScoredRouting {
  layer: number;
  numExperts: number;
  numExpertsPerToken: number;
  /** [R, k] the checkpoint's own experts (router rows), the largest routing weight first. */
  experts: number[];
  /** [R, k] */
  weights: number[];
  /** Teacher experts that each expert stands for; null where they are numbered alike. */
  teacherExperts: number[][] | null;
}
