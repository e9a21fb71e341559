import type { TradeOffPoint } from "../../src/protocol/panels";
import { bytes, decimal, parameters } from "../common/format";
import { t } from "../common/translate";

interface Measure {
  label: string;
  /** Axis title with unit. */
  title: string;
  value: (point: TradeOffPoint) => number | null;
  format: (value: number | null) => string;
  /** Steps of the axis in binary units. */
  binary?: boolean;
  /** A rate rather than a cost. */
  higherIsBetter?: boolean;
}

export const costs = {
  bytes: { label: t("Size in bytes"), title: t("checkpoint size"), value: (p) => p.bytes, format: bytes, binary: true },
  ratio: {
    label: t("Share of the teacher's size"),
    title: t("size, as a share of the teacher's"),
    value: (p) => p.sizeRatio ?? null,
    format: (v) => decimal(v, 3),
  },
  parameters: { label: t("Parameters"), title: "parameters", value: (p) => p.parametersTotal, format: parameters },
  speed: {
    label: t("Tokens a second"),
    title: t("tokens a second"),
    value: (p) => p.tokensPerSecond,
    format: (v) => decimal(v, 4),
    higherIsBetter: true,
  },
  memory: {
    label: t("Peak memory"),
    title: t("peak memory"),
    value: (p) => p.peakMemoryBytes,
    format: bytes,
    binary: true,
  },
} as const satisfies Record<string, Measure>;
export type Cost = keyof typeof costs;

export const qualities = {
  kl: {
    label: t("KL to the teacher"),
    title: t("KL to the teacher, nats a token"),
    // The teacher differs from itself by nothing, which nobody needs to measure.
    value: (p) => (p.stage === "teacher" ? 0 : p.klToTeacher),
    // A KL cannot be negative.
    min: 0,
    halfWidth: (p) => p.klHalfWidth,
    format: (v) => decimal(v, 4),
  },
  nll: {
    label: t("Loss"),
    title: t("loss, nats a token"),
    value: (p) => p.nllPerToken,
    halfWidth: (p) => p.nllHalfWidth,
    format: (v) => decimal(v, 4),
  },
  time: {
    label: t("Time a token"),
    title: t("time of the layers a token, as a multiple of the teacher's"),
    value: (p) => p.timeRatio ?? null,
    min: 0,
    halfWidth: () => null,
    format: (v) => decimal(v, 3),
  },
  latency: {
    label: t("Latency of one token"),
    title: t("latency of one token, as a multiple of the teacher's"),
    value: (p) => p.latencyRatio ?? null,
    min: 0,
    halfWidth: () => null,
    format: (v) => decimal(v, 3),
  },
} as const satisfies Record<string, Measure & { min?: number; halfWidth: (point: TradeOffPoint) => number | null }>;
export type Quality = keyof typeof qualities;

export const costNames = Object.keys(costs) as Cost[];
export const qualityNames = Object.keys(qualities) as Quality[];

/**
 * The points that no other beats in both directions (Pareto front): lower y is better, and lower x, or higher x for a
 * rate. Along x, best cost first.
 */
export function paretoFront<P extends { x: number; y: number }>(points: readonly P[], higherIsBetter: boolean): P[] {
  const byCost = [...points].sort((a, b) => (higherIsBetter ? b.x - a.x : a.x - b.x) || a.y - b.y);
  let best = Infinity;
  return byCost.filter(({ y }) => {
    const better = y < best;
    best = Math.min(best, y);
    return better;
  });
}
