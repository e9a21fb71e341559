import { openCheckpoint } from "../../checkpoint/open";
import { isUnfinishedOutputOf } from "../../checkpoint/outputFolder";

/** Whether a folder holds a complete checkpoint, or one of this run that only its marker keeps from being one. */
export async function isFinishedCheckpoint(directory: string, runId: string): Promise<boolean> {
  if (await isUnfinishedOutputOf(directory, runId)) return true;
  try {
    await openCheckpoint(directory);
    return true;
  } catch {
    return false;
  }
}
