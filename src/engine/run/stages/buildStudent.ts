import { readFile, rm } from "node:fs/promises";
import { denseStudentFile, studentToBuild, type DenseStudentFile } from "../../../protocol/denseStudent";
import { formatCount } from "../../../protocol/quantities";
import type { Recipe } from "../../../protocol/recipe";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { completeOutput } from "../../checkpoint/outputFolder";
import { secondsOf } from "../../compression/cost/methodCost";
import { noCost } from "../../compression/cost/layerCost";
import { textRead, type TokenSequences } from "../../data/sequences";
import { writeDense } from "../../distillation/build/buildDense";
import { momentsBytes } from "../../distillation/build/expertMoments";
import type { ModelDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { readSequences, sequencesOf } from "./data";
import { layerThreadsMemory, noScratch, streamingMemory, type ForecastInput, type StageForecast } from "./forecast";
import { isFinishedCheckpoint, makeWay, provenanceOf } from "./outputs";
import type { Stage, StageContext } from "./stage";

/**
 * Builds the dense student that a recipe asks for, in place of a compression: what it is made of (dense-student.json), and its
 * checkpoint. A killed stage does not measure again what is in the file.
 */
export const buildStudentStage: Stage = {
  id: "compress",
  inputs: async (context) => {
    const { paths, run } = context;
    const { fingerprint } = await context.models.model(paths.teacher);
    return {
      version: 1,
      teacher: fingerprint,
      build: studentToBuild(run.recipe)!,
      text: textRead(await sequencesOf(context, paths.calibrationData, sequencesMeasured(run.recipe))),
      output: paths.student,
    };
  },
  hasOutputs: ({ paths, runId }) => isFinishedCheckpoint(paths.student, runId),
  discard: async ({ paths }) => {
    await rm(paths.file("denseStudent"), { force: true });
    await rm(paths.file("compressed"), { recursive: true, force: true });
  },
  run: async (context) => {
    const { paths, run, runtime, signal, report, runId } = context;
    await makeWay(context, "the student would be written there");
    const teacher = await context.models.model(paths.teacher);
    const build = studentToBuild(run.recipe)!;
    const file = paths.file("denseStudent");
    const layers =
      (await readDenseStudent(file))?.layers ??
      (await context.work.measureDense({
        ...{ runtime, signal, report, teacher, build, stateDirectory: paths.runDirectory },
        sequences: await measuredText(context),
      }));
    const made: DenseStudentFile = { schemaVersion: 1, teacherFingerprint: teacher.fingerprint, build, layers };
    await writeFileAtomically(file, `${JSON.stringify(made, null, 2)}\n`);
    context.models.forget(paths.student);
    await writeDense({
      ...{ teacher, directory: paths.student, provenance: provenanceOf(run), runId, leaveMarker: true, signal, report },
      layers: new Map(Object.entries(layers).map(([layer, plan]) => [Number(layer), plan])),
    });
  },
  forecast,
  scratch: () => noScratch,
  complete: async ({ paths, models }) => {
    models.forget(paths.student);
    await completeOutput(paths.student);
  },
};

/** dense-student.json of a run; null where there is none that can be read. */
export async function readDenseStudent(file: string): Promise<DenseStudentFile | null> {
  try {
    return denseStudentFile.parse(JSON.parse(await readFile(file, "utf8")));
  } catch {
    return null;
  }
}

function measuredText(context: StageContext): Promise<TokenSequences> {
  return readSequences(context, context.paths.calibrationData, sequencesMeasured(context.run.recipe));
}

/** Sequences that experts are measured on: the first of the calibration text. */
function sequencesMeasured({ data, student }: Pick<Recipe, "data" | "student">): number {
  const { maxTokens } = studentToBuild({ student })!;
  return Math.min(data.sequences, Math.ceil(maxTokens / data.sequenceLength));
}

/** A pass of the teacher, every expert on every token, the products of what they give, and the bytes that are written. */
function forecast(input: ForecastInput): StageForecast {
  const { recipe, probe, bytesAfter, teacher, time, memoryBudgetBytes, measured } = input;
  const tokens = sequencesMeasured(recipe) * recipe.data.sequenceLength;
  const { maxTokens } = studentToBuild(recipe)!;
  const looked = Math.min(tokens, maxTokens);
  const operations = looked * operationsPerToken(teacher);
  const own = probe?.compute ? secondsOf({ ...noCost, float32: operations }, probe.compute) : 0;
  const measuring = time.pass(tokens, "forward") + own;
  return {
    seconds: measuring + time.copy(bytesAfter),
    teacherSeconds: measuring,
    peakMemoryBytes:
      streamingMemory(input, { tokens: 2 * tokens, allTokens: tokens }) +
      layerThreadsMemory(input, tokens) +
      momentsBytes(teacher, looked, memoryBudgetBytes),
    assumption: `${tokens} tokens forward, all experts of each layer on ${looked} of them (${formatCount(operations)} operations), ${bytesAfter} bytes written; ${measured}`,
  };
}

/** Every expert's products, and the inner products of what they give. */
function operationsPerToken(teacher: ModelDescription): number {
  const H = teacher.hiddenSize;
  return moeLayers(teacher).reduce(
    (sum, { moe: { numExperts: E, intermediateSize: I } }) => sum + 6 * E * H * I + 2 * E * (E + 1) * H,
    0,
  );
}
