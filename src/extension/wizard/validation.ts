import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import type { Translate } from "../../protocol/translate";
import type { Amount } from "./questions";

/** Smallest and largest number of experts in the checkpoint's MoE layers. */
export function expertCounts(checkpoint: CheckpointSummary): { fewest: number; most: number } {
  const counts = checkpoint.layers.flatMap(({ moe }) => (moe ? [moe.numExperts] : []));
  return { fewest: Math.min(...counts), most: Math.max(...counts) };
}

/** Experts that a layer of `numExperts` keeps; `keep` is a fraction up to 1, or a count above 1. */
export function keptExperts(keep: number, numExperts: number): number {
  return keep <= 1 ? Math.max(1, Math.round(keep * numExperts)) : Math.round(keep);
}

export type Checked<T> = { ok: true; value: T } | { ok: false; problem: string };

/** Reads "0.625", "62.5 %" or a count such as "80", and refuses what this checkpoint cannot do. */
export function parseKeep(text: string, checkpoint: CheckpointSummary, t: Translate): Checked<number> {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(%?)\s*$/.exec(text);
  const { fewest } = expertCounts(checkpoint);
  if (!match)
    return {
      ok: false,
      problem: t("Enter a fraction such as 0.625, a percentage such as 62.5 %, or a number of experts"),
    };
  const value = match[2] === "%" ? Number(match[1]) / 100 : Number(match[1]);
  if (value <= 0) return { ok: false, problem: t("At least one expert must stay") };
  if (match[2] === "%" && value > 1) return { ok: false, problem: t("No more than 100 % can be kept") };
  if (value > 1 && !Number.isInteger(value)) {
    return { ok: false, problem: t("{0} is neither a fraction up to 1 nor a whole number of experts", text.trim()) };
  }
  const kept = keptExperts(value, fewest);
  if (kept >= fewest)
    return {
      ok: false,
      problem: t("The smallest layer has {0} experts: keeping {1} would change nothing", fewest, kept),
    };
  const topK = checkpoint.numExpertsPerToken ?? 1;
  if (kept < topK) {
    return { ok: false, problem: t("{0} experts would stay, but the router selects {1} for every token", kept, topK) };
  }
  return { ok: true, value };
}

/** Reads several of them, with commas between: "0.5, 25 %, 12". Each is kept once. */
export function parseKeeps(text: string, checkpoint: CheckpointSummary, t: Translate): Checked<number[]> {
  const values: number[] = [];
  for (const part of text.split(/[,;]/)) {
    const parsed = parseKeep(part, checkpoint, t);
    if (!parsed.ok) return parsed;
    values.push(parsed.value);
  }
  return { ok: true, value: [...new Set(values)] };
}

/** Reads "512 x 256": sequences times tokens a sequence. */
export function parseAmount(text: string, t: Translate): Checked<Amount> {
  const match = /^\s*(\d{1,7})\s*[x×*]\s*(\d{1,6})\s*$/i.exec(text);
  if (!match) return { ok: false, problem: t("Enter sequences x tokens a sequence, such as 512 x 256") };
  const amount = { sequences: Number(match[1]), sequenceLength: Number(match[2]) };
  if (amount.sequences < 1) return { ok: false, problem: t("At least one sequence is needed") };
  if (amount.sequenceLength < 2)
    return { ok: false, problem: t("A sequence needs at least 2 tokens: each one predicts the next") };
  return { ok: true, value: amount };
}

/** Reads a whole number of experts, 1 to `most`. */
export function parseExperts(text: string, most: number, t: Translate): Checked<number> {
  const value = /^\s*\d{1,5}\s*$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= most) return { ok: true, value };
  return { ok: false, problem: t("Enter a whole number of experts from 1 to {0}", most) };
}

/** Reads a whole number of experts, or nothing. */
export function parseExpertsPerToken(text: string, t: Translate): Checked<number | null> {
  const entered = text.trim();
  if (entered === "") return { ok: true, value: null };
  if (/^[1-9]\d{0,4}$/.test(entered)) return { ok: true, value: Number(entered) };
  return { ok: false, problem: t("Enter a whole number of experts, such as 8, or nothing") };
}
