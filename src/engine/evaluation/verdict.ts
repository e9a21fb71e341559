import type { Comparison } from "../../protocol/evaluation";
import { bootstrapDifference, type BootstrapOptions, defaultResamples } from "./bootstrap";

/** One quantity of the student before and after calibration, on the same positions of the same held-out sequences. */
export interface BeforeAfter {
  metric: Comparison["metric"];
  /** [numSequences], nats summed over the counted positions of a sequence. */
  before: ArrayLike<number>;
  /** [numSequences], as `before`. */
  after: ArrayLike<number>;
  /** [numSequences], counted positions. */
  tokens: ArrayLike<number>;
  /** [numSequences], which sequences are resampled together (textUnits); absent: each by itself. */
  units?: ArrayLike<number>;
}

/**
 * With fewer sequences (documents, where one spans several) no interval keeps its promise: a few sequences that lose much are
 * then likely not to be among those measured, and a calibration without any effect looks like a gain.
 */
export const minUnitsForVerdict = 20;

/**
 * Is the difference between before and after beyond noise? `recovered` when the whole 95 % interval of the gain lies above 0,
 * `worse` when it lies below, `no gain` otherwise; `too little text` for fewer than {@link minUnitsForVerdict} units.
 *
 * `recoveredShare` is gain / before (0 where before is 0): for the KL to the teacher, the share of the damage undone.
 *
 * @throws `internal` when the sequences of both sides do not match or a value is not finite
 */
export function compareBeforeAfter(
  { metric, before, after, tokens, units }: BeforeAfter,
  options: BootstrapOptions = {},
): Comparison {
  const sums = { sums: after, tokens, ...(units ? { units } : {}) };
  const { mean: gain, interval95 } = bootstrapDifference(before, sums, options);
  const numUnits = units ? new Set(Array.from(units)).size : before.length;
  const meanBefore = meanPerToken(before, tokens);
  return {
    metric,
    before: meanBefore,
    after: meanPerToken(after, tokens),
    gain,
    gainInterval95: interval95,
    recoveredShare: meanBefore === 0 ? 0 : gain / meanBefore,
    verdict: numUnits < minUnitsForVerdict ? "too little text" : verdictOf(interval95),
    units: numUnits,
    resamples: options.resamples ?? defaultResamples,
  };
}

/** The verdict as sentences for people, with numbers and units. Made from what evaluation.json holds. */
export function describeComparison(comparison: Comparison): string {
  const { trainedOn } = comparison;
  if (!trainedOn) return describeVerdict(comparison);
  return `${describeVerdict(comparison)} ${describeShare(trainedOn)}`;
}

/** What figures on text that was trained on are worth. */
export function describeShare(trainedOn: number): string {
  const share = (100 * trainedOn).toFixed(trainedOn < 0.1 ? 1 : 0);
  return `${share} % of the evaluation text was trained on, so this says nothing about new text.`;
}

function describeVerdict(comparison: Comparison): string {
  const { metric, before, after, gain, gainInterval95, recoveredShare, verdict, units } = comparison;
  const name = metric === "klToTeacher" ? "KL to the teacher" : "Loss";
  const numbers = `${name} went from ${nats(before)} to ${nats(after)} nats a token`;
  const interval = `95 % interval ${nats(gainInterval95[0])} to ${nats(gainInterval95[1])}`;
  switch (verdict) {
    case "recovered": {
      const share = metric === "klToTeacher" ? `, ${(100 * recoveredShare).toFixed(1)} % of what compression cost` : "";
      return `Recovered: ${numbers}, a gain of ${nats(gain)} (${interval})${share}.`;
    }
    case "worse":
      return `Worse: ${numbers}, a loss of ${nats(-gain)} (gain ${nats(gain)}, ${interval}).`;
    case "no gain":
      return `No gain: ${numbers}, a difference of ${nats(gain)} (${interval}); the interval includes 0, so the difference is within noise.`;
    case "too little text":
      return `Too little text: ${numbers}, a difference of ${nats(gain)} (${units === 1 ? "a single sequence or document has no interval" : interval}); a verdict needs at least ${minUnitsForVerdict} held-out sequences, and whole documents where one spans several${units === undefined ? "" : `: there ${units === 1 ? "is" : "are"} ${units}`}.`;
  }
}

function verdictOf([lower, upper]: [number, number]): "recovered" | "worse" | "no gain" {
  if (lower > 0) return "recovered";
  return upper < 0 ? "worse" : "no gain";
}

function meanPerToken(sums: ArrayLike<number>, tokens: ArrayLike<number>): number {
  let sum = 0;
  let count = 0;
  for (let s = 0; s < sums.length; s++) {
    sum += sums[s]!;
    count += tokens[s]!;
  }
  return sum / count;
}

/** Four decimals, or three significant digits where those would hide the number. */
function nats(value: number): string {
  if (value === 0) return "0";
  return Math.abs(value) < 0.001 ? value.toPrecision(3) : value.toFixed(4);
}
