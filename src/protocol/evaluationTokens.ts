import { z } from "zod";

/** evaluation-tokens.json: the first tokens of the evaluated text, and how well each student predicted them. */

const values = z.array(z.number().nullable());

export const tokenValues = z.object({
  nll: values.describe("-log p(token | those before it), nats; null where nothing predicts it"),
  kl: values.nullable().describe("KL(teacher || student) of the distribution that predicts the token, nats"),
});
export type TokenValues = z.infer<typeof tokenValues>;

export const evaluationTokensFile = z.object({
  schemaVersion: z.literal(1),
  sequenceLength: z.int().min(1),
  /** [T] text of each token; "" is padding. */
  tokens: z.array(z.string()),
  before: tokenValues.nullable(),
  after: tokenValues.nullable(),
});
export type EvaluationTokensFile = z.infer<typeof evaluationTokensFile>;
