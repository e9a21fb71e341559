import type { Preflight, RunFile } from "../../../protocol/run";
import { isRunFolder, readRun } from "../folder/runFolder";
import { RunShare, type ExpectedStage } from "../runShare";
import type { RunMachinery } from "../startRun";
import type { Cell } from "./cells";
import { forecastCell } from "./forecastCell";

/**
 * One clock for a whole comparison: its stages are those of all cells, `<cell> <stage>`, as each cell's pre-flight predicts them;
 * that of a cell which has begun is in its run folder. What the teacher does counts in the first cell alone. The machinery
 * measures the machine once for all of them.
 * @throws RerouteError cancelled
 */
export async function comparisonShare(
  machinery: RunMachinery,
  cells: readonly Cell[],
  baseFolder: string,
  { signal, force = false }: { signal: AbortSignal; force?: boolean },
): Promise<RunShare> {
  const stages: ExpectedStage[] = [];
  for (const cell of cells) {
    const run = (await isRunFolder(cell.runDirectory)) ? await readRun(cell.runDirectory).catch(() => null) : null;
    const preflight =
      run?.preflight ??
      // Texts say nothing of times, and all cells read the same.
      (await forecastCell(machinery, cell, baseFolder, { showsText: false, skipsTexts: true, signal, force }))
        .preflight;
    if (preflight && preflight.refusals.length === 0)
      stages.push(...stagesOf(cell.id, preflight, run, stages.length > 0));
  }
  return new RunShare(stages);
}

function stagesOf(cell: string, preflight: Preflight, run: RunFile | null, hasTeacher: boolean): ExpectedStage[] {
  return preflight.stages.map(({ stage, step, seconds, teacherSeconds = 0 }) => {
    const record = run?.stages.find((one) => one.id === stage && one.step === step);
    return {
      id: [cell, ...(step === undefined ? [] : [step]), stage].join(" "),
      kind: stage,
      seconds: Math.max(0, seconds - (hasTeacher ? teacherSeconds : 0)),
      took: record?.state === "done" ? record.seconds : null,
    };
  });
}
