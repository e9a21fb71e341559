import { namedStudent } from "../../../protocol/denseStudent";
import { quote } from "../../checkpoint/quote";
import { contentKey } from "../../checkpoint/contentKey";
import { isSampled } from "../../checkpoint/fingerprint";
import type { StageId } from "../../../protocol/run";
import type { StageContext } from "../stages/stage";

/**
 * Names, sizes and times of the weight files that a run was given, as a hash; null where fingerprints cover every byte. It
 * decides nothing: copies have other times, and hashing 60 GB costs a minute of processor time and reading them from disk.
 * It tells when the user should hear that fingerprints of large checkpoints are samples.
 */
export async function weightStamp({
  models,
  paths,
  run,
}: Pick<StageContext, "models" | "paths" | "run">): Promise<string | null> {
  const given = [paths.teacher, ...(namedStudent(run.recipe) === undefined ? [] : [paths.student])];
  const files: unknown[] = [];
  for (const directory of given) {
    const { checkpoint } = await models.model(directory);
    if (!isSampled(checkpoint)) continue;
    files.push(checkpoint.shards.map(({ name, sizeBytes, modifiedMs }) => [name, sizeBytes, modifiedMs]));
  }
  return files.length === 0 ? null : contentKey(files);
}

/** What to tell where a finished stage is used again although weight files were written since. */
export function writtenSince(stage: StageId, teacher: string): string {
  return (
    `Weight files of ${quote(teacher)}, or of the student, were written since stage ${stage} was done. Their fingerprint is the same ` +
    "(config.json, names and shapes of all tensors, the smallest 512 MiB of them, both ends of the others), so its results are used " +
    "again; if weights may differ elsewhere, start a new run folder"
  );
}
