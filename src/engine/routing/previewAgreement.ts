import type { PreviewAgreement } from "../../protocol/panels";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { TokenSequences } from "../data/sequences";
import { pickSequences } from "../execution/batches";
import { observedByAll, type MoeObservation } from "../execution/observer";
import { profileCheckpoint } from "../execution/profile";
import type { ModelDescription } from "../model/description";
import { withPreviewProducts } from "../model/previewProducts";
import type { RuntimeOptions } from "../runtime/session";
import { RoutingStatistics } from "./collect";
import { overDomains } from "./layerStatistics";

/** Sequences that are run both ways, spread evenly over the text. */
const mostSequences = 8;

export interface AgreementOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequences: TokenSequences;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal;
}

/** One pass as far as it is compared: by layer the selected experts [tokens, k], and a REAP score an expert. */
interface Pass {
  selected: Map<number, { k: number; ids: Int32Array }>;
  scores: Map<number, number[]>;
}

/** A sample of sequences through the model with exact products and with those of a preview: how far both say the same. */
export async function previewAgreement(options: AgreementOptions): Promise<PreviewAgreement> {
  const { description, sequences } = options;
  const count = Math.min(mostSequences, sequences.numSequences);
  const numbers = Array.from({ length: count }, (_, i) => Math.floor((i * sequences.numSequences) / count));
  const sample = { ...options, sequences: pickSequences(sequences, numbers) };
  const exact = await passOf(sample);
  const rounded = await passOf({ ...sample, ...withPreviewProducts({ description }) });
  return agreementOf(exact, rounded, count);
}

/** @param sequences that both passes saw */
export function agreementOf(exact: Pass, rounded: Pass, sequences: number): PreviewAgreement {
  let [both, all, tokens] = [0, 0, 0];
  let worstLayer = { layer: 0, topKOverlap: Infinity };
  let reapRank = 1;
  for (const [layer, { k, ids }] of exact.selected) {
    const others = rounded.selected.get(layer)!.ids;
    let common = 0;
    for (let at = 0; at < ids.length; at += k) {
      const row = others.subarray(at, at + k);
      for (let i = at; i < at + k; i++) if (row.includes(ids[i]!)) common++;
    }
    [both, all, tokens] = [both + common, all + ids.length, ids.length / k];
    if (common / ids.length < worstLayer.topKOverlap) worstLayer = { layer, topKOverlap: common / ids.length };
    reapRank = Math.min(reapRank, rankCorrelation(exact.scores.get(layer)!, rounded.scores.get(layer)!));
  }
  return { sequences, tokens, topKOverlap: both / all, worstLayer, reapRank };
}

async function passOf(options: AgreementOptions): Promise<Pass> {
  const { sequences } = options;
  const { sequenceLength, lengths } = sequences;
  const statistics = new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: false });
  const selected: Pass["selected"] = new Map();
  const filled = new Map<number, number>();
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const observe = ({ layer, numTokens, numExpertsPerToken: k, firstToken, selectedIds }: MoeObservation) => {
    const { ids } = selected.get(layer) ?? { ids: new Int32Array(total * k) };
    selected.set(layer, { k, ids });
    let at = filled.get(layer) ?? 0;
    for (let i = 0; i < numTokens; i++) {
      const token = firstToken + i;
      if (token % sequenceLength >= lengths[Math.floor(token / sequenceLength)]!) continue;
      ids.set(selectedIds.subarray(i * k, (i + 1) * k), at);
      at += k;
    }
    filled.set(layer, at);
  };
  const observer = observedByAll([statistics, { observe, readsRoutingOnly: true }]);
  await profileCheckpoint({ ...options, observer, collectOutputs: true });
  const scores = statistics.result().layers.map((layer) => {
    const frequency = overDomains(layer, "frequency");
    const sums = overDomains(layer, "weightedNormSum");
    return [layer.layer, Array.from(sums, (sum, e) => sum / Math.max(1, frequency[e]!))] as const;
  });
  return { selected, scores: new Map(scores) };
}

/** Spearman's, ties sharing their mean rank; 1 where neither side tells its numbers apart. */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  const [x, y] = [ranks(a), ranks(b)];
  const mean = (a.length - 1) / 2;
  const moment = (u: readonly number[], v: readonly number[]) =>
    u.reduce((sum, value, i) => sum + (value - mean) * (v[i]! - mean), 0);
  const size = Math.sqrt(moment(x, x) * moment(y, y));
  return size === 0 ? 1 : moment(x, y) / size;
}

function ranks(values: readonly number[]): number[] {
  const below = (value: number) => values.filter((other) => other < value).length;
  const same = (value: number) => values.filter((other) => other === value).length;
  return values.map((value) => below(value) + (same(value) - 1) / 2);
}
