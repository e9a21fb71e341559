import type { StageId } from "../../../protocol/run";
import type { Stage, WriteReport } from "./stage";
import { calibrateStage } from "./calibrate";
import { compressStage } from "./compress";
import { evaluateStage } from "./evaluate";
import { profileStage } from "./profile";
import { reportStage } from "./report";

/** Every stage of a run. The report's writer is given from outside: reports come after runs in the order of folders. */
export function stageTable(writeReport: WriteReport): Readonly<Record<StageId, Stage>> {
  return {
    profile: profileStage,
    compress: compressStage,
    calibrate: calibrateStage,
    evaluate: evaluateStage,
    report: reportStage(writeReport),
  };
}
