import { matchesRouterLogits, type CalibrationOptions } from "./calibration";
import { logitMapping } from "./routerLogits";
import { TeacherTargets } from "./teacherTargets";

/**
 * What the teacher is asked for: its targets on the training sequences (none where it has no part in training), with its
 * router logits where they are matched, and on the held-out sequences.
 */
export async function prepareTargets(
  calibration: CalibrationOptions,
): Promise<{ training: TeacherTargets | null; heldOut: TeacherTargets | null }> {
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
  const isTaught = options.loss !== "lm" || routerLogits !== null;
  return {
    training: isTaught ? await TeacherTargets.prepare({ ...common, sequences: training, routerLogits }) : null,
    heldOut: heldOut === null ? null : await TeacherTargets.prepare({ ...common, sequences: heldOut }),
  };
}
