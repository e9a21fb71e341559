import { z } from "zod";
import { planSchema } from "./plan";

/** reroute.json: what a checkpoint written by Reroute was made from. Lies beside its config.json. */
export const provenanceSchema = z.object({
  schemaVersion: z.literal(1),
  reroute: z.string(),
  kind: z.enum(["compressed", "calibrated"]),
  teacher: z.object({ path: z.string(), fingerprint: z.string() }),
  /** Of a calibrated checkpoint: the student it was calibrated from. */
  student: z.object({ path: z.string(), fingerprint: z.string() }).nullable(),
  plan: planSchema.nullable(),
  /** Of a calibrated checkpoint: the tensors that were trained; all others are the student's bytes. */
  trained: z.array(z.string()).optional(),
  recipe: z.unknown(),
  seed: z.int(),
  versions: z.record(z.string(), z.string()),
  metrics: z.record(z.string(), z.number()),
});
export type Provenance = z.infer<typeof provenanceSchema>;
