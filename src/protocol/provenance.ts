import { z } from "zod";
import { planSchema } from "./plan";
import { packings } from "./recipe";

/** A text that weights were trained on, as far as it was read. */
export const trainedText = z.object({
  path: z.string(),
  sha256: z.string().nullable().describe("Of its files, see evaluation.json; null where only the recipe is known"),
  column: z.string().optional(),
  sequences: z.int(),
  sequenceLength: z.int(),
  packing: z.enum(packings),
});
export type TrainedText = z.infer<typeof trainedText>;

/** reroute.json: what a checkpoint written by Reroute was made from. Lies beside its config.json. */
export const provenanceSchema = z.object({
  schemaVersion: z.literal(1),
  reroute: z.string(),
  kind: z.enum(["compressed", "calibrated"]),
  teacher: z.object({ path: z.string(), fingerprint: z.string() }),
  /** What it was made from, where that is not the teacher: the student that was calibrated, or a compressed one that was compressed again. */
  student: z.object({ path: z.string(), fingerprint: z.string() }).nullable(),
  plan: planSchema.nullable(),
  /** Where the plan was for a checkpoint that was compressed before: the teacher's experts that each of its experts stands for, by layer. */
  sourceExperts: z.record(z.string(), z.array(z.array(z.int()))).optional(),
  /** Of a calibrated checkpoint: the tensors that were trained; all others are the student's bytes. */
  trained: z.array(z.string()).optional(),
  /** Texts of its calibration, and of those of the checkpoints that it was made from. */
  trainedOn: z.array(trainedText).optional(),
  recipe: z.unknown(),
  seed: z.int(),
  versions: z.record(z.string(), z.string()),
  metrics: z.record(z.string(), z.number()),
});
export type Provenance = z.infer<typeof provenanceSchema>;
