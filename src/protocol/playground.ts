import * as z from "zod/mini";
import { maxSideBySide } from "./scoring";

/* What the Playground page shows and asks for. The host keeps it: a hidden page has nothing of its own. */

const int = z.int();
const number = z.number();

/** Settings under transformers' names, all given, so that the checkpoints are asked alike. */
export const playgroundOptions = z.object({
  maxNewTokens: int.check(z.minimum(1)),
  minNewTokens: int.check(z.minimum(0)),
  doSample: z.boolean(),
  temperature: number,
  topK: int.check(z.minimum(0)),
  topP: number,
  minP: number,
  repetitionPenalty: number,
  seed: int.check(z.minimum(0)),
});
export type PlaygroundOptions = z.infer<typeof playgroundOptions>;

export const playgroundQuestion = z.object({
  prompt: z.string().check(z.maxLength(200_000)),
  /** Through each checkpoint's own chat template. */
  chat: z.boolean(),
  system: z.string().check(z.maxLength(200_000)),
  options: playgroundOptions,
});
export type PlaygroundQuestion = z.infer<typeof playgroundQuestion>;

/** A checkpoint of the page; names are untrusted text. */
const playgroundModel = z.object({
  name: z.string(),
  folder: z.string(),
  role: z.enum(["teacher", "student"]),
  /** Null while `problem` says why nothing can be generated with it. */
  about: z.nullable(
    z.object({
      family: z.string(),
      contextLength: int,
      hasChatTemplate: z.boolean(),
      defaults: z.omit(playgroundOptions, { seed: true }),
      moeLayers: z.array(int),
      /** Bytes of weights that a token reads, and seconds that takes where they come from the disk each time. */
      stepBytes: number,
      secondsPerStep: z.nullable(number),
      cacheBytesPerSequence: number,
      tokenizerDifference: z.nullable(z.string()),
    }),
  ),
  problem: z.nullable(z.string()),
});
export type PlaygroundModel = z.infer<typeof playgroundModel>;

const playgroundToken = z.object({ id: z.nullable(int), text: z.string() });
export type PlaygroundToken = z.infer<typeof playgroundToken>;

const playgroundColumn = z.object({
  tokens: z.array(playgroundToken),
  finish: z.nullable(z.enum(["end-token", "stop-string", "max-new-tokens", "context"])),
  /** Null until it has ended. */
  metrics: z.nullable(
    z.object({ promptTokens: int, secondsToFirstToken: number, stepsPerSecond: number, seconds: number }),
  ),
});

/** What one model says of a response's R tokens, in one layer. */
const playgroundScore = z.object({
  nll: z.array(number),
  kl: z.nullable(z.array(number)),
  /** [R, k], largest routing weight first; null of a model without experts in this layer. */
  routing: z.nullable(
    z.object({
      numExperts: int,
      numExpertsPerToken: int,
      experts: z.array(int),
      weights: z.array(number),
      teacherExperts: z.nullable(z.array(z.array(int))),
    }),
  ),
});
export type PlaygroundScore = z.infer<typeof playgroundScore>;

export const playgroundScores = z.object({
  /** MoE layers of any of the models. */
  layers: z.array(int),
  layer: z.nullable(int),
  /** By response: text of each token, and what each model says of it. */
  texts: z.array(z.object({ pieces: z.array(z.string()), models: z.array(playgroundScore) })),
});
export type PlaygroundScores = z.infer<typeof playgroundScores>;

const playgroundRun = z.object({
  state: z.enum(["waiting", "generating", "scoring", "done", "cancelled", "failed"]),
  /** Which of the models is at work. */
  model: int,
  question: playgroundQuestion,
  columns: z.array(playgroundColumn),
  /** Share of the scoring that is done. */
  scored: number,
  scores: z.nullable(playgroundScores),
  /** Why it failed, or why responses are not compared; untrusted text. */
  problem: z.nullable(z.string()),
});
export type PlaygroundRun = z.infer<typeof playgroundRun>;

export const playgroundData = z.object({
  models: z.array(playgroundModel).check(z.maxLength(maxSideBySide)),
  run: z.nullable(playgroundRun),
});
export type PlaygroundData = z.infer<typeof playgroundData>;

/** A change of the run: all of it, or tokens that came to one response behind its first `from`. */
export const playgroundUpdate = z.union([
  z.object({ run: playgroundRun }),
  z.object({ column: int, from: int, tokens: z.array(playgroundToken) }),
]);
export type PlaygroundUpdate = z.infer<typeof playgroundUpdate>;

/** What becomes of the models side by side; `index` of the one that is meant. */
export const playgroundChange = z.object({
  action: z.enum(["add", "replace", "remove", "make-teacher"]),
  index: int.check(z.minimum(0), z.maximum(maxSideBySide - 1)),
});
export type PlaygroundChange = z.infer<typeof playgroundChange>;

/** What the panel keeps of a model over a reload of the window. */
export const playgroundSource = z.object({
  folder: z.string(),
  name: z.string(),
  role: z.enum(["teacher", "student"]),
});
export type PlaygroundSource = z.infer<typeof playgroundSource>;
