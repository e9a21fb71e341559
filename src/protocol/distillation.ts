import { z } from "zod";
import { estimate } from "./evaluation";
import { divergenceKinds } from "./calibrateOptions";

/**
 * distillation.json of a run's folder, of a comparison's, or written by `reroute probe-experts`: what the figures of Every
 * Expert Matters (arXiv 2502.12947) are drawn from. A part that was not measured is null.
 */

/** A model under one number of active experts, over the target positions of a text; nats a position. */
export const activeExpertsRow = z.object({
  active: z.int(),
  loss: estimate,
  klToOwn: estimate.describe("KL of the teacher's own routing to this one"),
  klOfStudent: estimate.nullable().describe("KL of this teacher to the student; null without one"),
});
export type ActiveExpertsRow = z.infer<typeof activeExpertsRow>;

/** How a layer's router probabilities are spread under the family's own routing, means over tokens that count. */
export const gateMass = z.object({
  layer: z.int(),
  activated: z.number().describe("Sum over the experts that the family selects"),
  sorted: z.array(z.number()).describe("[experts], largest first"),
});
export type GateMass = z.infer<typeof gateMass>;

/** Figures 1 and 2. */
export const expertProbe = z.object({
  sequences: z.int(),
  tokens: z.int().describe("Target positions"),
  ownActive: z.int().describe("The family's own number"),
  rows: z.array(activeExpertsRow),
  gateMass: z.array(gateMass),
  studentLoss: estimate.nullable().describe("Null without a student"),
});
export type ExpertProbe = z.infer<typeof expertProbe>;

/** Figure 5, at every held-out evaluation of a calibration with the routing student-aware. */
export const routerKlFigure = z.object({
  layers: z.array(z.int()).describe("Numbers of the sparse layers"),
  evaluations: z.array(
    z.object({
      step: z.int().describe("Updates done"),
      kl: z.array(z.number()).describe("KL of the teacher's own routers to the trained ones, nats, as `layers`"),
    }),
  ),
});
export type RouterKlFigure = z.infer<typeof routerKlFigure>;

/** One way of teaching the same student, over all its seeds; figures 2 (by `active`) and 4 (by `draws`). */
export const distillationArm = z.object({
  name: z.string(),
  divergence: z.enum(divergenceKinds),
  routing: z.enum(["own", "active", "augment", "student-aware"]),
  active: z.int().describe("Experts of the teacher that a token goes to"),
  draws: z.int().describe("Passes of the teacher that the loss is the mean of"),
  onPolicy: z.number().describe("Share of sequences that the student writes; 0: text"),
  seeds: z.array(z.int()),
  /** Of the trained student, to the teacher under its own routing; means over the seeds. */
  klToTeacher: estimate,
  nllPerToken: estimate,
  /** KL minus the baseline's on the same sequences and seeds, nats: negative is better; null for the baseline. */
  difference: z.object({ mean: z.number(), interval95: z.tuple([z.number(), z.number()]) }).nullable(),
  rougeL: z
    .object({ mean: z.number(), deviation: z.number(), responses: z.int() })
    .optional()
    .describe(
      "ROUGE-L F times 100 over the seeds of students and of sampling, with the population's standard deviation",
    ),
  teacherSeconds: z.number().nullable().describe("Of a seed: the teacher's passes and its routers' steps"),
  writingSeconds: z.number().nullable().describe("Of a seed: the student's own sequences"),
  seconds: z.number().describe("Of a seed: the whole calibration"),
});
export type DistillationArm = z.infer<typeof distillationArm>;

export const armsFigure = z.object({
  baseline: z.string().describe("Name of the arm that differences are to"),
  before: z.object({ klToTeacher: estimate, nllPerToken: estimate }).nullable().describe("The student untrained"),
  arms: z.array(distillationArm),
});
export type ArmsFigure = z.infer<typeof armsFigure>;

export const distillationFile = z.object({
  schemaVersion: z.literal(1),
  probe: expertProbe.nullable(),
  routerKl: routerKlFigure.nullable(),
  arms: armsFigure.nullable(),
});
export type DistillationFile = z.infer<typeof distillationFile>;

/** Its file, and the same numbers as rows of one figure, series and place each. */
export const distillationFiles = { json: "distillation.json", csv: "distillation.csv" } as const;
