import type { CheckpointCost, EvaluationFile } from "../../protocol/evaluation";
import { scatterChartSvg } from "./scatterChart";

/** What a checkpoint costs as a share of its teacher, which was measured in the same way; null where either was not. */
export function againstTeacher(
  own: CheckpointCost,
  teacher: CheckpointCost | null,
): { sizeRatio: number | null; timeRatio: number | null; latencyRatio: number | null } {
  const rates = teacher?.tokensPerSecond && own.tokensPerSecond ? [teacher.tokensPerSecond, own.tokensPerSecond] : null;
  const [ownTime, teacherTime] = [own, teacher].map((cost) => cost?.speed?.batches[0]?.medianMs);
  const latencies = ownTime && teacherTime ? ([ownTime, teacherTime] as const) : null;
  return {
    sizeRatio: teacher ? own.bytes / teacher.bytes : null,
    timeRatio: rates ? rates[0]! / rates[1]! : null,
    latencyRatio: latencies ? latencies[0] / latencies[1] : null,
  };
}

interface Point {
  label: string;
  x: number;
  y: number;
}

/** The points that no other beats in both, with less being better. */
export function frontOf<P extends { x: number; y: number }>(points: readonly P[]): Set<P> {
  const beats = (a: P, b: P) => a.x <= b.x && a.y <= b.y && (a.x < b.x || a.y < b.y);
  return new Set(points.filter((point) => !points.some((other) => beats(other, point))));
}

/** Size against quality and against time, a point a step and one for the teacher; those on the Pareto front stand out. */
export function tradeOffCharts({ teacher, steps }: EvaluationFile): string {
  if (!teacher || !steps) return "";
  const checkpoints = [
    { label: "teacher", model: teacher, kl: 0 },
    ...steps.map(({ number, name, evaluation }) => ({
      label: `${number} ${name}`,
      model: evaluation,
      kl: evaluation.klToTeacher,
    })),
  ];
  const chart = (title: string, yAxis: string, yOf: (checkpoint: (typeof checkpoints)[number]) => number | null) => {
    const points = checkpoints.flatMap((checkpoint): Point[] => {
      const y = yOf(checkpoint);
      return y === null ? [] : [{ label: checkpoint.label, x: checkpoint.model.cost.bytes, y }];
    });
    const front = frontOf(points);
    const styled = points.map((point) => ({ ...point, style: front.has(point) ? "s1" : "s0" }));
    const series = [
      { style: "s1", name: "on the Pareto front" },
      { style: "s0", name: "beaten in both" },
    ];
    return scatterChartSvg(styled, { title, yAxis, series, yFromZero: true });
  };
  return (
    chart("Size against KL to the teacher", "KL, nats a token", ({ kl }) => kl) +
    (teacher.cost.speed
      ? chart("Size against latency", "latency of one token, teacher = 1", ({ model }) =>
          model === teacher ? 1 : againstTeacher(model.cost, teacher.cost).latencyRatio,
        )
      : "") +
    chart("Size against time", "layer time a token, teacher = 1", ({ model }) =>
      model === teacher ? 1 : againstTeacher(model.cost, teacher.cost).timeRatio,
    )
  );
}
