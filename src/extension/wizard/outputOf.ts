import { existsSync } from "node:fs";
import { homedir } from "node:os";
import { outputFolder, outputParent } from "../runs/runName";
import { workspaceFolder } from "../settings";
import { actionOf } from "./actionOf";
import type { WizardState } from "./questions";

/** The folder that is proposed for the result: new, in `parent` or where results go. */
export function proposedOutput(state: Pick<WizardState, "context" | "answers">, parent: string | null): string {
  const { checkpoint, purpose } = state.context;
  const calibrated = purpose === "calibrate" && state.answers.keep !== undefined ? "-calibrated" : "";
  const place = parent ?? outputParent(checkpoint.path, workspaceFolder(checkpoint.path), homedir());
  return outputFolder(checkpoint.path, place, `${actionOf(state)}${calibrated}`, existsSync);
}
