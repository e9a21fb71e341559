import { z } from "zod";

/** metrics.jsonl: one JSON object a line, appended while a run works. */
export const metricsLine = z.discriminatedUnion("kind", [
  z.object({
    kind: z.literal("update"),
    /** Optimiser updates finished, from 1. */
    step: z.int(),
    /** Training loss of this update (KL for Router KD), nats a target position, temperature factor included. */
    loss: z.number(),
    /** Matching terms without their weights, which `loss` holds with them. */
    terms: z.object({ router: z.number(), experts: z.number(), feedForward: z.number() }).partial().optional(),
    learningRate: z.number(),
    /** Global gradient norm before clipping. */
    gradientNorm: z.number(),
    tokens: z.int(),
    seconds: z.number(),
    /** Of these, the teacher's passes and its routers' steps; with the first update those over fixed text, done before it. */
    teacherSeconds: z.number().optional(),
    /** Of these, what the student took to write its own sequences. */
    writingSeconds: z.number().optional(),
  }),
  z.object({
    kind: z.literal("held-out"),
    step: z.int(),
    /** KL(teacher || student) over the vocabulary on held-out sequences, nats a token. */
    kl: z.number(),
    nll: z.number(),
    best: z.boolean(),
    /** KL of the teacher's own routers to those that train with the student, by sparse layer (routing student-aware). */
    routerKl: z.array(z.number()).optional(),
  }),
  z.object({
    kind: z.literal("resources"),
    stage: z.string(),
    at: z.string(),
    memoryBytes: z.number(),
    bytesRead: z.number(),
    bytesWritten: z.number(),
    tokensPerSecond: z.number().nullable(),
  }),
]);
export type MetricsLine = z.infer<typeof metricsLine>;
