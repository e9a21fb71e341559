import { RerouteError } from "../../../protocol/errors";
import type { CalibrateOptions } from "../../../protocol/calibrateOptions";
import { moeLayers } from "../../model/moeLayers";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { logitMapping, type LogitMapping } from "../routerLogits";

/**
 * Refuses routings of the teacher under which its layers are not one thing to compare with.
 * @throws RerouteError arguments/invalid
 */
export function checkMatchOptions({ match, teacherRouting, loss }: CalibrateOptions): void {
  if (match === undefined) return;
  const kind = teacherRouting?.kind;
  if (kind === "augment" || kind === "student-aware") {
    throw new RerouteError(
      "arguments/invalid",
      `Matching inside the model compares with one routing of the teacher, and ${kind} has ${kind === "augment" ? "several draws" : "routers that change"}; use own or active, or leave out match`,
    );
  }
  if (loss !== "router-logits") return;
  throw new RerouteError(
    "arguments/invalid",
    "The loss router-logits already compares routers alone; match is added to kd, lm and kd+lm",
  );
}

export type MatchWeights = NonNullable<CalibrateOptions["match"]>;

/** How a student's layers stand to those of the teacher that have experts. */
export interface MatchMapping {
  /** Numbers of the layers that are compared: the teacher's sparse ones. */
  layers: readonly number[];
  /** Teacher experts behind each of the student's router rows; null where neither routers nor experts are matched. */
  logits: LogitMapping | null;
}

/**
 * What is compared with what, or why it cannot be.
 *
 * @param experts student expert -> teacher expert ids by layer number, as the compression plan says; null without a plan
 * @throws RerouteError teacher/mismatch where depth, width or experts do not correspond; model/not-moe for a teacher without
 *   experts; model/unsupported-option for experts that weigh their input
 */
export function matchMapping(
  student: ModelDescription,
  teacher: ModelDescription,
  match: MatchWeights,
  experts: Readonly<Record<string, number[][]>> | null,
): MatchMapping {
  const sparse = moeLayers(teacher);
  if (sparse.length === 0)
    throw new RerouteError(
      "model/not-moe",
      `Matching compares layers with experts, and this ${teacher.family} teacher has none`,
    );
  if (student.layers.length !== teacher.layers.length)
    throw mismatch(`the student has ${student.layers.length} layers, the teacher ${teacher.layers.length}`);
  if ((match.experts ?? match.feedForward) !== undefined && student.hiddenSize !== teacher.hiddenSize)
    throw mismatch(`the student's hidden states are ${student.hiddenSize} wide, the teacher's ${teacher.hiddenSize}`);
  const layers = sparse.map(({ layer }) => layer);
  if ((match.router ?? match.experts) === undefined) return { layers, logits: null };
  const ofStudent = new Map(moeLayers(student).map(({ layer, moe }) => [layer, moe]));
  const dense = layers.find((index) => !ofStudent.has(index));
  if (dense !== undefined)
    throw mismatch(`routers and experts are matched, and layer ${dense} of the student has none`);
  if (match.experts !== undefined)
    [...sparse.map(({ moe }) => moe), ...ofStudent.values()].forEach(refuseWeightedInputs);
  return { layers, logits: logitMapping(student, teacher, experts) };
}

/** Members among the teacher's experts of each of a layer's experts that exist, and the one that each teacher expert belongs to; -1: none. */
export function expertOfTeacher(
  mapping: readonly (readonly number[])[],
  student: MoeDescription,
  teacherRows: number,
): Int32Array {
  const found = new Int32Array(teacherRows).fill(-1);
  mapping.forEach((ids, row) => {
    for (const id of ids) found[id] = student.logicalToPhysical?.[row] ?? row;
  });
  return found;
}

function refuseWeightedInputs(moe: MoeDescription): void {
  if (moe.weightsInput !== true) return;
  throw new RerouteError(
    "model/unsupported-option",
    "Matching experts compares their outputs without routing weights, which this family multiplies their inputs by; match routers or feed-forward outputs",
  );
}

function mismatch(found: string): RerouteError {
  return new RerouteError(
    "teacher/mismatch",
    `Matching inside the model compares layer with layer, but ${found}; leave out match, or choose a student made from this teacher`,
  );
}
