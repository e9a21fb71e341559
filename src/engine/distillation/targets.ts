import { matchesRouterLogits, type CalibrationOptions } from "./calibration";
import type { RouterLogitTargets } from "./routerLogitTargets";
import { logitMapping } from "./routerLogits";
import { teacherRoutes } from "./teacherRouting";
import type { TokenSequences } from "../data/sequences";
import { TeacherTargets, type TeacherTargetsOptions } from "./teacherTargets";

/** What a student learns from: the teacher's targets, one set for each draw of its routing. */
export interface TrainingTargets {
  routerLogits: RouterLogitTargets | null;
  /** That the teacher took for them, where it was before the first update. */
  seconds?: number;
  draws: readonly (Pick<TeacherTargets, "read"> & { file?: string })[];
}

/**
 * What the teacher is asked for: its targets on the training sequences (none where it has no part in training), with its
 * router logits where they are matched, and on the held-out sequences. Whatever routing teaches, held-out targets are those
 * of the teacher's own, so that results compare.
 */
export async function prepareTargets(
  calibration: CalibrationOptions,
): Promise<{ training: TrainingTargets | null; heldOut: TeacherTargets | null }> {
  const { student, teacher, training, heldOut, options, runtime, stateDirectory, signal, report } = calibration;
  const common = {
    teacher,
    runtime,
    directory: stateDirectory,
    signal,
    stage: "calibrate",
    ...(report ? { report } : {}),
  };
  const routerLogits = matchesRouterLogits(options)
    ? logitMapping(student.description, teacher.description, calibration.expertMapping ?? null)
    : null;
  // Where routers train with the student, targets are made round by round.
  const inRounds = options.teacherRouting?.kind === "student-aware" || options.onPolicy !== undefined;
  const isTaught = !inRounds && (options.loss !== "lm" || routerLogits !== null);
  const draws: TeacherTargets[] = [];
  if (isTaught) {
    for (const [draw, route] of teacherRoutes(options.teacherRouting, teacher.description, calibration.seed).entries())
      draws.push(
        await TeacherTargets.prepare({
          ...{ ...common, sequences: training, routerLogits, route },
          ...elsewhere(calibration, training, draw, false),
        }),
      );
  }
  const [first] = draws;
  return {
    training:
      first === undefined
        ? null
        : { routerLogits: first.routerLogits, draws, seconds: draws.reduce((sum, { seconds }) => sum + seconds, 0) },
    heldOut:
      heldOut === null
        ? null
        : await TeacherTargets.prepare({
            ...{ ...common, sequences: heldOut },
            ...elsewhere(calibration, heldOut, 0, true),
          }),
  };
}

/** Who makes targets in place of this process. */
function elsewhere(
  { elsewhere: { teacherRows } = {}, signal }: CalibrationOptions,
  sequences: TokenSequences,
  draw: number,
  isOwnRouting: boolean,
): Pick<TeacherTargetsOptions, "elsewhere"> {
  if (teacherRows === undefined) return {};
  return { elsewhere: (from, write) => teacherRows({ sequences, from, draw, isOwnRouting }, signal, write) };
}
