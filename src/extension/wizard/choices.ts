import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import { compressionMethods, paradigmOf, type CompressionMethod, type Paradigm } from "../../protocol/methods";
import type { Translate } from "../../protocol/translate";
import type { Amount, Answers } from "./questions";
import { expertCounts, keptExperts } from "./validation";

/** What the quick picks offer: pure data, so that it can be tested without VS Code. */
export interface Choice<T> {
  label: string;
  description: string;
  detail?: string;
  value: T;
}

interface MethodGroup {
  paradigm: Paradigm;
  title: string;
  choices: Choice<CompressionMethod>[];
}

/** Methods by paradigm, each with its idea and with who can load what it writes. A test holds them to the engine's own. */
export function methodChoices(t: Translate): MethodGroup[] {
  const about: Record<CompressionMethod, string> = {
    reap: t("Drop experts with the smallest routing weight times output norm"),
    frequency: t("Drop the least often selected experts"),
    "weighted-frequency": t("Drop experts with the smallest summed routing weight"),
    ean: t("Drop experts with the smallest mean output norm"),
    aimer: t("Drop by a criterion of the weights alone; needs no statistics"),
    random: t("Drop at random: the baseline every other method must beat"),
    cfes: t("Keep experts by coarse-to-fine selection"),
    naee: t("Keep the subset that best preserves the layer's output"),
    "easy-ep": t("Keep experts by output-aware score over a few texts of a domain"),
    mone: t("Replace dropped experts by their mean output"),
    ablation: t("Drop experts without which the model says nearly the same"),
    svd: t("Low-rank approximation of each expert's projections"),
    "svd-llm": t("Low-rank approximation whitened by the calibration text"),
    mobe: t("Experts as mixtures of shared basis matrices"),
    "td-moe": t("Tucker decomposition across experts"),
    "d2-moe": t("One shared base and a low-rank difference for each expert"),
    "hc-smoe": t("Merge experts whose mean outputs cluster together"),
    "m-smoe": t("Merge by router-logit similarity, weighted by frequency"),
    ream: t("Merge experts into those with the highest REAP scores"),
    magnitude: t("Zero the smallest weights: the baseline, without text"),
    wanda: t("Zero weights that are small times their input's norm"),
    "moe-pruner": t("As wanda, with each token counted by its routing weight"),
    sparsegpt: t("Zero weights and let the others take over their part"),
    "router-columns": t("Zero the routers' least important inputs, to see how sensitive they are"),
    "router-weights": t("Zero the routers' smallest weights, to see how sensitive they are"),
    "router-rtn": t("Round the routers' weights to 8, 6 or 4 bits, to see how sensitive they are"),
    rtn: t("Round weights to 8, 4, 3 or 2 bits; without text"),
    gptq: t("Round to 8, 4, 3 or 2 bits, each error made up for by the weights behind"),
    awq: t("Round to few bits, channels scaled by how large their activations are"),
    fp8: t("Weights as 8-bit floats, a scale for each block or row"),
    mxfp4: t("Weights as 4-bit floats, a power of two for 32 of them"),
    neurons: t("Narrow every expert by the units that add least to its output"),
  };
  const titles: Record<Paradigm, string> = {
    pruning: t("Pruning: fewer experts"),
    editing: t("Editing: smaller experts"),
    merging: t("Merging: experts combined"),
    sparsity: t("Sparsity: weights at zero, size unchanged"),
    neurons: t("Neurons: narrower experts"),
    quantisation: t("Quantisation: fewer bits a weight"),
    router: t("Routers: a study of sensitivity that saves nothing"),
  };
  const paradigms = ["pruning", "merging", "editing", "quantisation", "neurons", "sparsity", "router"] as const;
  return paradigms.map((paradigm) => ({
    paradigm,
    title: titles[paradigm],
    choices: compressionMethods
      .filter((method) => paradigmOf(method) === paradigm)
      .map((method) => ({
        label: method,
        description: loadedBy(method, t) + (method === "reap" ? ` · ${t("recommended")}` : ""),
        detail: about[method],
        value: method,
      })),
  }));
}

/** Who can read the compressed checkpoint, which differs by what its layers become. */
export function loadedBy(method: CompressionMethod, t: Translate): string {
  if (method === "mone") return t("loads in Reroute only");
  if (paradigmOf(method) === "editing") return t("dense output loads in transformers, factored in Reroute only");
  return t("loads in transformers");
}

/** Whether a method's `keep` counts experts: all others keep every expert and take from each a share. */
export function countsExperts(method: CompressionMethod): boolean {
  return ["pruning", "merging"].includes(paradigmOf(method));
}

/** Common ratios that this checkpoint can do, as numbers of experts kept, or as shares of what each expert has. */
export function keepChoices(
  checkpoint: CheckpointSummary,
  t: Translate,
  method: CompressionMethod = "reap",
): Choice<number>[] {
  const { fewest, most } = expertCounts(checkpoint);
  const topK = checkpoint.numExpertsPerToken ?? 1;
  const counts = countsExperts(method);
  return [0.75, 0.625, 0.5, 0.375, 0.25]
    .filter((keep) => !counts || (keptExperts(keep, fewest) >= topK && keptExperts(keep, fewest) < fewest))
    .map((keep) => ({
      label: counts ? t("Keep {0} of {1} experts", keptExperts(keep, most), most) : t("Keep {0} %", keep * 100),
      description: counts
        ? `${keep * 100} %` + (keep === 0.625 ? ` · ${t("published setting")}` : "")
        : t("every expert stays"),
      value: keep,
    }));
}

/** Method and ratio in one answer: REAP at the published ratio, or the nearest that this checkpoint can do; null without any. */
export function recommendation(checkpoint: CheckpointSummary, t: Translate): Choice<Answers> | null {
  const ratios = keepChoices(checkpoint, t);
  const ratio = ratios.find(({ value }) => value === 0.625) ?? ratios[0];
  if (!ratio) return null;
  const { most } = expertCounts(checkpoint);
  return {
    label: t("Recommended: reap, keep {0} of {1} experts", keptExperts(ratio.value, most), most),
    description: ratio.description,
    value: { method: "reap", keep: ratio.value, recommended: true },
  };
}

/** Amounts of a text with so many tokens; the published recipe first where there is enough text for it. */
export function amountChoices(tokens: number, t: Translate): Choice<Amount>[] {
  const all: Amount = { sequences: Math.max(1, Math.min(3000, Math.floor(tokens / 512))), sequenceLength: 512 };
  const choices: Choice<Amount>[] = [];
  const size = (amount: Amount) => t("{0} sequences of {1} tokens", amount.sequences, amount.sequenceLength);
  if (tokens >= 3000 * 512) choices.push({ label: t("Published recipe"), description: size(all), value: all });
  else choices.push({ label: t("All of this text"), description: t("about {0}", size(all)), value: all });
  const quick: Amount = { sequences: Math.max(1, Math.min(128, Math.floor(tokens / 256))), sequenceLength: 256 };
  choices.push({ label: t("Quick look"), description: size(quick), value: quick });
  return choices;
}
