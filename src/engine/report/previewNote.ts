import type { PreviewAgreement } from "../../protocol/panels";
import { formatCount, formatNumber, formatPercent } from "../../protocol/quantities";

/** What a reader of an approximate profile is told. */
export function previewNote({ sequences, tokens, topKOverlap, worstLayer, reapRank }: PreviewAgreement): string {
  return (
    `Approximate (precision preview). On ${formatCount(tokens)} tokens of ${sequences} of its sequences, ${formatPercent(topKOverlap)} of the experts ` +
    `that exact products select are selected (layer ${worstLayer.layer}: ${formatPercent(worstLayer.topKOverlap)}), and REAP orders a layer's ` +
    `experts with a rank correlation of at least ${formatNumber(reapRank)}.`
  );
}
