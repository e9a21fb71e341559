import path from "node:path";
import type { EvaluationFile } from "../../../protocol/evaluation";
import { runFiles } from "../../../protocol/run";
import { comparePair } from "../../evaluation/comparePair";
import { readEvaluation } from "../stages/evaluate";
import type { RunStep } from "./pipelineSteps";

/**
 * evaluation.json of a pipeline, from those of its steps so far: what the last of them says, and the checkpoint that each step
 * left, with its difference from the step before on the same sequences. Null while no step has measured.
 */
export async function evaluationOfSteps(steps: readonly RunStep[], seed: number): Promise<EvaluationFile | null> {
  const rows: NonNullable<EvaluationFile["steps"]> = [];
  let last: EvaluationFile | null = null;
  for (const { number, name, runDirectory } of steps) {
    const file = await readEvaluation(path.join(runDirectory, runFiles.evaluation));
    const evaluation = file?.after ?? file?.before;
    if (!file || !evaluation) continue;
    const before = rows.at(-1)?.evaluation;
    const { perSequence } = file.data;
    const change =
      file.comparison ?? (before && perSequence ? comparePair(before, evaluation, perSequence, seed) : null);
    rows.push({ number, name, evaluation, change });
    last = file;
  }
  return last && { ...last, steps: rows };
}
