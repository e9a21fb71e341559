import { readFile } from "node:fs/promises";
import path from "node:path";
import { distillationFile, distillationFiles, type DistillationFile } from "../../../protocol/distillation";
import type { MetricsLine } from "../../../protocol/metrics";
import type { RouterKlFigure } from "../../../protocol/distillation";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { moeLayers } from "../../model/moeLayers";
import type { ModelDescription } from "../../model/description";

/** distillation.json of a folder; null where there is none that can be read. */
export async function readDistillation(directory: string): Promise<DistillationFile | null> {
  try {
    const text = await readFile(path.join(directory, distillationFiles.json), "utf8");
    const parsed = distillationFile.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

/** Sets some parts of a folder's distillation.json and leaves the others. */
export async function updateDistillation(
  directory: string,
  parts: Partial<Pick<DistillationFile, "probe" | "routerKl" | "arms">>,
): Promise<void> {
  const before = (await readDistillation(directory)) ?? { probe: null, routerKl: null, arms: null };
  const file: DistillationFile = { ...before, ...parts, schemaVersion: 1 };
  await writeFileAtomically(path.join(directory, distillationFiles.json), `${JSON.stringify(file, null, 2)}\n`);
}

/** How far the teacher's trained routers were from its own at each held-out evaluation; null where none trained. */
export function routerKlOfLooks(lines: readonly MetricsLine[], teacher: ModelDescription): RouterKlFigure | null {
  const evaluations = lines.flatMap((line) =>
    line.kind === "held-out" && line.routerKl ? [{ step: line.step, kl: line.routerKl }] : [],
  );
  return evaluations.length === 0 ? null : { layers: moeLayers(teacher).map(({ layer }) => layer), evaluations };
}
