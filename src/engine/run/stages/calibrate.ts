import { rm } from "node:fs/promises";
import { completeOutput } from "../../checkpoint/outputFolder";
import { expertMapping } from "../../compression/plan/expertMapping";
import { heldOutCount, splitHeldOut } from "../../data/heldOutSplit";
import { tokensRead } from "../../data/sequences";
import { RerouteError } from "../../../protocol/errors";
import { removeTeacherTargets } from "../folder/leftovers";
import type { Stage, StageContext } from "./stage";
import type { OpenModel } from "../work";
import { readSequences, sequencesOf } from "./data";
import { isFinishedCheckpoint, provenanceOf, readProvenance, requireNewOutput } from "./outputs";

/** Router KD: trains the student's routers (or more of it) against the teacher and writes the calibrated checkpoint to the output folder. */
export const calibrateStage: Stage = {
  id: "calibrate",
  inputs: async (context) => {
    const { paths, run } = context;
    const [teacher, student] = [await context.models.model(paths.teacher), await context.models.model(paths.student)];
    return {
      version: 2,
      teacher: teacher.fingerprint,
      student: student.fingerprint,
      options: run.recipe.calibrate,
      seed: run.recipe.seed,
      tokens: tokensRead(
        await sequencesOf(context, paths.calibrationData, sequenceCount(context) + spareCount(context)),
      ),
      sequences: run.recipe.data.sequences,
      output: paths.output,
    };
  },
  hasOutputs: async ({ paths, runId }) => isFinishedCheckpoint(paths.output, runId),
  discard: async ({ paths }) => {
    await rm(paths.file("trainState"), { force: true });
    await rm(paths.file("metrics"), { force: true });
  },
  run: async (context) => {
    const { paths, run, work, runtime, signal, report, onMetrics, runId } = context;
    const options = run.recipe.calibrate!;
    const teacher = await context.models.model(paths.teacher);
    const student = await context.models.model(paths.student);
    await checkOrigin(context, student, teacher);
    await requireNewOutput(context, "the calibration would write its result there");
    const { sequences } = run.recipe.data;
    const all = await readSequences(context, paths.calibrationData, sequenceCount(context), spareCount(context));
    const { training, heldOut, sharesDocument } = splitHeldOut(all, sequences, options.heldOut);
    if (sharesDocument)
      await context.warn(
        `The held-out sequences of ${paths.calibrationData} continue a document that training reads, since no other document begins behind it; held-out figures may be too good. Separate documents, or add text`,
      );
    const compressed = await readProvenance(student.checkpoint.directory);
    const plan = compressed?.plan ?? null;
    context.models.forget(paths.output);
    const { trained } = await work.calibrate({
      runtime,
      signal,
      report,
      student,
      teacher,
      training,
      heldOut,
      options,
      expertMapping: expertMapping(teacher.description, plan),
      seed: run.recipe.seed,
      stateDirectory: paths.runDirectory,
      onMetrics,
      onResume: (step) => context.rewindMetrics(step),
      output: {
        directory: paths.output,
        runId,
        provenance: { schemaVersion: 1, plan, ...provenanceOf(run) },
      },
    });
    await context.recordTrained(trained);
  },
  complete: async (context) => {
    context.models.forget(context.paths.output);
    await completeOutput(context.paths.output);
    await removeTeacherTargets(context.paths.runDirectory);
  },
};

function sequenceCount(context: StageContext): number {
  return context.run.recipe.data.sequences + spareCount(context);
}

/** As many again as are held out, for where the first ones continue a document that training reads. */
function spareCount({ run }: StageContext): number {
  return heldOutCount(run.recipe.data.sequences, run.recipe.calibrate!.heldOut);
}

/**
 * Teacher and student must speak of the same tokens; a student that names another teacher is refused unless forced.
 * @throws RerouteError teacher/mismatch
 */
export async function checkOrigin(context: StageContext, student: OpenModel, teacher: OpenModel): Promise<void> {
  const [s, t] = [student.description, teacher.description];
  if (s.vocabSize !== t.vocabSize) {
    throw mismatch(
      `The student's vocabulary has ${s.vocabSize} entries, the teacher's ${t.vocabSize}; choose the model that the student was made from`,
    );
  }
  if (s.hiddenSize !== t.hiddenSize || s.layers.length !== t.layers.length) {
    throw mismatch(
      `The student has ${s.layers.length} layers of width ${s.hiddenSize}, the teacher ${t.layers.length} of width ${t.hiddenSize}; choose the model that the student was made from`,
    );
  }
  const origin = (await readProvenance(student.checkpoint.directory))?.teacher;
  if (!origin || origin.fingerprint === teacher.fingerprint) return;
  const message = `The student says it was made from ${origin.path} (${origin.fingerprint.slice(0, 12)}), not from this teacher (${teacher.fingerprint.slice(0, 12)})`;
  if (!context.force) throw mismatch(`${message}; choose that teacher, or use --force to go on`);
  await context.warn(`${message}; going on because of --force`);
}

function mismatch(message: string): RerouteError {
  return new RerouteError("teacher/mismatch", message);
}
