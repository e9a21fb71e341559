import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { runFiles } from "../../../protocol/run";
import { isPartialName } from "../../checkpoint/atomicFile";
import { isEvaluationState } from "../../evaluation/evaluationState";
import { hiddenNames } from "../../execution/passState";
import { lockLeftovers } from "./lock";

/** Folder of tiles in a run folder, where work is spread. */
export const tilesFolder = "tiles";

/** Scratch files of hidden states where open files keep their names, and locks that were being taken over. */
const scratchNames = [/^hidden-\d+-\d+\.f32$/, lockLeftovers];

/** Teacher targets with the file that says how far they got, and sequences that the student wrote. */
const targetNames =
  /^(teacher-(routing-)?targets-[0-9a-f]+\.f32(\.json|\.router-logits)?|student-round-\d+-[0-9a-f]{16}\.safetensors)$/;

/**
 * Takes away what a killed process left half written in a run folder. Only for the holder of the folder's lock: another
 * process's files look the same.
 */
export function removeLeftovers(runDirectory: string): Promise<string[]> {
  return removeNamed(runDirectory, (name) => isPartialName(name) || scratchNames.some((pattern) => pattern.test(name)));
}

/**
 * Takes away the teacher's cached hidden states once nothing needs them: after the calibration is done. A calibration
 * that was cancelled or killed keeps them, because the teacher's pass is the longest thing to do again.
 */
export function removeTeacherTargets(runDirectory: string): Promise<string[]> {
  return removeNamed(runDirectory, (name) => targetNames.test(name));
}

/** Takes away what an interrupted profile would have gone on with. */
export function removeProfileState(runDirectory: string): Promise<string[]> {
  const hidden = hiddenNames("profile");
  return removeNamed(runDirectory, (name) => name === runFiles.profileState || hidden.test(name));
}

/**
 * Takes away what an interrupted evaluation would have gone on with: of the student that was just measured, or of its
 * teacher too, whose run the next student is compared with.
 */
export async function removeEvaluationState(runDirectory: string, of: "student" | "all"): Promise<string[]> {
  if (of === "all") await rm(path.join(runDirectory, tilesFolder), { recursive: true, force: true });
  return removeNamed(
    runDirectory,
    (name) => isEvaluationState(name, "student") || (of === "all" && isEvaluationState(name, "teacher")),
  );
}

async function removeNamed(directory: string, isLeftover: (name: string) => boolean): Promise<string[]> {
  const names = (await readdir(directory)).filter(isLeftover);
  for (const name of names) await rm(path.join(directory, name), { force: true });
  return names;
}
