import { stageIds } from "../../../protocol/run";
import type { Stage, WriteReport } from "./stage";
import { fileExists } from "./profile";

/** Writes report.html and report.md from the files of the run folder. `write` comes from the report folder. */
export function reportStage(write: WriteReport): Stage {
  return {
    id: "report",
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
  };
}
