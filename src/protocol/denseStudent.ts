import { z } from "zod";

/** A dense student that is built from its teacher's experts: how a recipe asks for it, and dense-student.json. */

export const denseChoices = ["reap", "frequency", "greedy"] as const;
export type DenseChoice = (typeof denseChoices)[number];
export const denseScales = ["fitted", "equal"] as const;
export type DenseScales = (typeof denseScales)[number];

export const buildOptions = z
  .strictObject({
    experts: z.int().min(1).optional().describe("Experts of each layer; default: as many as a token goes to"),
    choose: z.enum(denseChoices).default("reap").describe("Which experts"),
    scales: z
      .enum(denseScales)
      .default("fitted")
      .describe("What their outputs are multiplied by: fitted by least squares, or 1/k each"),
    maxTokens: z.int().min(1).default(8192).describe("Tokens that experts are measured on, at most"),
  })
  .describe("A dense model of the teacher: some experts of each layer become one feed-forward part");
export type BuildOptions = z.infer<typeof buildOptions>;

/** Who learns: a checkpoint, or one that is built first. */
export const studentOptions = z.union([z.string().min(1), z.strictObject({ build: buildOptions })]);
type Named = { student?: z.infer<typeof studentOptions> | undefined };

/** The checkpoint that a recipe names as its student; undefined where it names none, or has one built. */
export function namedStudent({ student }: Named): string | undefined {
  return typeof student === "string" ? student : undefined;
}

/** How a recipe's student is built; undefined where none is. */
export function studentToBuild({ student }: Named): BuildOptions | undefined {
  return typeof student === "object" ? student.build : undefined;
}

/** The experts that a layer's dense MLP is made of, each with what its output is multiplied by. */
export const denseLayerPlan = z.object({
  experts: z.array(z.int().min(0)).describe("In the order they were chosen"),
  scales: z.array(z.number()),
  residual: z
    .number()
    .describe(
      "Mean squared error of the sum of scale times expert against the routed sum, as a share of the routed sum's mean square",
    ),
  sharedScale: z
    .number()
    .optional()
    .describe(
      "What shared experts behind a gate are multiplied by: the mean of its sigmoid. Absent: they are joined as they are",
    ),
});
export type DenseLayerPlan = z.infer<typeof denseLayerPlan>;

/** dense-student.json of a run that builds its student; layers by decoder layer number. */
export const denseStudentFile = z.object({
  schemaVersion: z.literal(1),
  teacherFingerprint: z.string(),
  build: buildOptions,
  layers: z.record(z.string(), denseLayerPlan),
});
export type DenseStudentFile = z.infer<typeof denseStudentFile>;
