import { readdir } from "node:fs/promises";
import { RerouteError } from "../../../protocol/errors";
import type { Recipe } from "../../../protocol/recipe";
import type { RunFile } from "../../../protocol/run";
import { isUnfinishedOutputOf } from "../../checkpoint/outputFolder";
import { quote } from "../../checkpoint/quote";
import { idOf, stagesOf, type RunPaths } from "../folder/runFolder";
import { isFinishedCheckpoint } from "../stages/outputs";

/**
 * Why a recipe's result cannot go to its output folder: `output/not-empty`, or `output/write-failed` where it cannot be looked
 * into. Null where it can, or nothing is written.
 *
 * @param run a run that is being continued: what it wrote or left there is its own
 */
export async function outputRefusal(
  recipe: Recipe,
  { output }: RunPaths,
  run: RunFile | undefined,
): Promise<RerouteError | null> {
  const wanted = stagesOf(recipe);
  const writes = (["calibrate", "compress"] as const).find((id) => wanted.has(id));
  if (writes === undefined) return null;
  const writer = run?.stages.find(({ id }) => id === writes);
  if (run && writer?.state === "done" && (await isFinishedCheckpoint(output, idOf(run)))) return null;
  if (run && (await isUnfinishedOutputOf(output, idOf(run)))) return null;
  let names: string[];
  try {
    names = await readdir(output);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    const why = code ?? String(error);
    return new RerouteError("output/write-failed", `The output folder ${quote(output)} cannot be used: ${why}`);
  }
  if (names.length === 0) return null;
  return new RerouteError(
    "output/not-empty",
    writer?.state === "done"
      ? `The output folder ${quote(output)} no longer holds the whole checkpoint that this run wrote; put the missing files back, delete the folder, or choose another`
      : `The output folder ${quote(output)} holds ${names.slice(0, 3).map(quote).join(", ")}; choose another folder`,
  );
}
