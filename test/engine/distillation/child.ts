/**
 * Calibrates in a process of its own, as a run does it, so that a test can kill it. Prints a line for every report and
 * every metrics line.
 * Arguments: student, teacher, run folder, output folder, options as JSON.
 */
import path from "node:path";
import { completeOutput } from "../../../src/engine/checkpoint/outputFolder";
import { expertMapping } from "../../../src/engine/compression/plan/expertMapping";
import { readProvenance } from "../../../src/engine/run/stages/outputs";
import { liveWork } from "../../../src/engine/run/liveWork";
import { appendMetrics, rewindMetrics } from "../../../src/engine/run/folder/metricsFile";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { openModel, randomSequences } from "../../support/tinyModels";

async function run(
  studentFolder: string,
  teacherFolder: string,
  stateDirectory: string,
  directory: string,
  options: string,
) {
  const student = await openModel(studentFolder);
  const teacher = await openModel(teacherFolder);
  const plan = (await readProvenance(studentFolder))?.plan ?? null;
  const metrics = path.join(stateDirectory, "metrics.jsonl");
  await liveWork.calibrate({
    student,
    teacher,
    expertMapping: expertMapping(teacher.description, plan),
    training: randomSequences(1, 24, 10),
    heldOut: randomSequences(2, 3, 10),
    options: calibrateOptions.parse({
      batch: 2,
      learningRate: 5e-3,
      evaluateEvery: 2,
      epochs: 2,
      ...(JSON.parse(options) as object),
    }),
    seed: 42,
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 },
    stateDirectory,
    onMetrics: async (line) => {
      console.log(line.kind);
      await appendMetrics(metrics, line);
    },
    onResume: (step) => rewindMetrics(metrics, step),
    signal: new AbortController().signal,
    report: ({ message }) => console.log(message),
    output: {
      directory,
      runId: "killed",
      provenance: { schemaVersion: 1, plan: null, reroute: "0.0.0", recipe: null, seed: 42, versions: {} },
    },
  });
  await completeOutput(directory);
  console.log("done");
}

const [student = "", teacher = "", state = "", output = "", options = "{}"] = process.argv.slice(2);
run(student, teacher, state, output, options).catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
