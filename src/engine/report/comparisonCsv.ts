import { verdictWords } from "../../protocol/verdict";
import type { ComparedCheckpoint, ComparisonFile } from "../../protocol/compare";

/** One row a checkpoint: the teacher, and each cell before and after calibration. Full precision, units in the head. */
export function comparisonCsv({ teacher, cells }: ComparisonFile): string {
  const head = [
    ...["cell", "method", "keep", "stage", "state", "error", "parameters", "active parameters", "bytes"],
    ...["KL to teacher (nats a token)", "KL half width 95 %", "loss (nats a token)", "loss half width 95 %"],
    ...["top-1 agreement", "tokens a second", "peak memory (bytes)"],
    ...["gain (nats a token)", "gain from", "gain to", "recovered share", "verdict"],
  ];
  const rows = cells.flatMap((cell) => {
    const { id, method, pipeline, arm, keep, state, error, before, after } = cell;
    const start = (stage: string): Value[] => [
      id,
      method ?? pipeline ?? arm ?? null,
      keep,
      stage,
      state,
      error?.code ?? null,
    ];
    const [from, to] = cell.gainInterval95 ?? [null, null];
    const end: Value[] = [
      cell.gain,
      from,
      to,
      cell.recoveredShare,
      cell.verdict && verdictWords(cell.verdict, cell.trainedOn),
    ];
    if (!before && !after) return [[...start(""), ...numbers(null), ...nothing]];
    return [
      ...(before ? [[...start("before"), ...numbers(before), ...nothing]] : []),
      ...(after ? [[...start("after"), ...numbers(after), ...end]] : []),
    ];
  });
  const teacherRows = teacher
    ? [["teacher", null, null, "teacher", "done", null, ...numbers(teacher), ...nothing]]
    : [];
  return [head, ...teacherRows, ...rows].map((row) => `${row.map((value) => value ?? "").join(",")}\r\n`).join("");
}

/** Numbers, and words of this program's own: nothing that would need quotes. */
type Value = string | number | null;

const nothing: Value[] = [null, null, null, null, null];

function numbers(model: ComparedCheckpoint | null): Value[] {
  if (!model) return new Array<null>(10).fill(null);
  return [
    ...[model.parametersTotal, model.parametersActive, model.bytes],
    ...[model.klToTeacher?.mean ?? null, model.klToTeacher?.halfWidth95 ?? null],
    ...[model.nllPerToken.mean, model.nllPerToken.halfWidth95],
    ...[model.top1Agreement, model.tokensPerSecond, model.peakMemoryBytes],
  ];
}
