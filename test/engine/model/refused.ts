import { describeModel } from "../../../src/engine/model/families/index";
import type { EditableCheckpoint } from "./goldens";

/** What a function throws, or null. */
export function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  return null;
}

/** The error with which a checkpoint is refused. */
export function errorOf(checkpoint: EditableCheckpoint): { code: string; message: string } {
  const error = caught(() => describeModel(checkpoint));
  if (error === null) throw new Error("nothing was thrown");
  return error as { code: string; message: string };
}
