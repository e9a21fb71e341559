import { stageIds, type StageId } from "../../../protocol/run";
import { baseProcessBytes } from "../../execution/memoryPlan";
import { noScratch } from "./forecast";
import type { Stage, WriteReport } from "./stage";
import { studentToBuild } from "../../../protocol/denseStudent";
import type { Recipe } from "../../../protocol/recipe";
import { buildStudentStage } from "./buildStudent";
import { calibrateStage } from "./calibrate";
import { compressStage } from "./compress";
import { evaluateStage } from "./evaluate";
import { fileExists } from "./outputs";
import { profileStage } from "./profile";

/** Every stage of a run, and what writes a report by itself. */
export type StageTable = Readonly<Record<StageId, Stage>> & { report: { write: WriteReport } };

/** Every stage of a run. The report's writer is given from outside: reports come after runs in the order of folders. */
export function stageTable(writeReport: WriteReport): StageTable {
  return {
    profile: profileStage,
    compress: studentStage,
    calibrate: calibrateStage,
    evaluate: evaluateStage,
    report: reportStage(writeReport),
  };
}

/** What makes the student: a compression, or, where the recipe says so, building a dense one. */
const studentStage: Stage = {
  id: "compress",
  inputs: (context) => makerOf(context.run.recipe).inputs(context),
  hasOutputs: (context) => makerOf(context.run.recipe).hasOutputs(context),
  discard: (context) => makerOf(context.run.recipe).discard(context),
  run: (context) => makerOf(context.run.recipe).run(context),
  forecast: (input) => makerOf(input.recipe).forecast(input),
  scratch: (input) => makerOf(input.recipe).scratch(input),
  complete: async (context) => makerOf(context.run.recipe).complete?.(context),
};

function makerOf(recipe: Recipe): Stage {
  return studentToBuild(recipe) ? buildStudentStage : compressStage;
}

/** Writes report.html and report.md from the files of the run folder. `write` comes from the report folder. */
function reportStage(write: WriteReport): StageTable["report"] {
  return {
    id: "report",
    write,
    inputs: async ({ run }) => ({
      version: 1,
      name: run.name,
      stages: stageIds
        .filter((id) => id !== "report")
        .map((id) => {
          const { inputHash, state, finishedAt } = run.stages.find((stage) => stage.id === id)!;
          return { id, inputHash, state, finishedAt };
        }),
    }),
    hasOutputs: async ({ paths }) =>
      (await fileExists(paths.file("report"))) && (await fileExists(paths.file("reportMarkdown"))),
    discard: async () => undefined,
    run: async ({ paths }) => write(paths.runDirectory),
    forecast: () => ({
      seconds: 1,
      teacherSeconds: 0,
      peakMemoryBytes: baseProcessBytes,
      assumption: "reads the run folder",
    }),
    scratch: () => noScratch,
  };
}
