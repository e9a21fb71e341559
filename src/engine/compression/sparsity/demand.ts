import type { CollectedLayer } from "../../execution/collectLayers";
import { inputNorms, type InputNorms, type RoutedTokens } from "../layer/expertInputs";
import { chunksOfExpert } from "../layer/expertInputs";
import { projections, readExpert, type ExpertMatrices } from "../layer/expertMatrices";
import type { LayerEngine } from "../layer/layerEngine";
import { columnsOf, maskedExpert, normsOf } from "./pruneExpert";

/** What one layer asks to keep, before shares are made of it. */
export interface LayerDemand {
  layer: number;
  /** Of the layer as a whole. */
  ofLayer: number;
  /** [experts] */
  ofExperts: number[];
}

/** One layer that is looked at, with what is routed to its experts. */
export interface DemandWork {
  engine: LayerEngine;
  collected: CollectedLayer;
  routed: readonly RoutedTokens[];
  weighted: boolean;
}

/**
 * OWL's outliers: 100 times the share of Wanda scores above `factor` times their mean, over all matrices of the layer together,
 * and over those of each expert.
 */
export async function outlierDemand(work: DemandWork, factor: number): Promise<LayerDemand> {
  const { routed, collected } = work;
  const experts: { sum: number; count: number; own: number }[] = [];
  for (const e of routed.keys()) {
    const { expert, norms } = await expertWithNorms(work, e);
    const [sum, count] = scoresAbove(expert, norms, -1);
    const [, own] = scoresAbove(expert, norms, (factor * sum) / Math.max(1, count));
    experts.push({ sum, count, own: count > 0 ? (100 * own) / count : 0 });
  }
  const [sum, count] = [total(experts.map((e) => e.sum)), total(experts.map((e) => e.count))];
  let above = 0;
  for (const e of routed.keys()) {
    const { expert, norms } = await expertWithNorms(work, e);
    above += scoresAbove(expert, norms, (factor * sum) / Math.max(1, count))[1];
  }
  const ofLayer = count > 0 ? (100 * above) / count : 0;
  return { layer: collected.layer.index, ofLayer, ofExperts: experts.map(({ own }) => own) };
}

/** Shares of the layer's routed tokens; layers are alike. */
export function utilisationDemand({ collected, routed }: DemandWork): LayerDemand {
  const all = total(routed.map(({ tokens }) => tokens.length));
  const ofExperts = routed.map(({ tokens }) => (all > 0 ? tokens.length / all : 0));
  return { layer: collected.layer.index, ofLayer: 1, ofExperts };
}

/** sum over tokens and matrices of ||(W - W') x||^2, W' with the share `keep` of the method's scores. */
export async function sensitivityDemand(work: DemandWork, keep: number): Promise<LayerDemand> {
  const { routed, collected, engine } = work;
  const ofExperts: number[] = [];
  for (const [e, tokens] of routed.entries()) {
    const { expert, norms } = await expertWithNorms(work, e);
    const masked = maskedExpert(expert, { keep, pattern: "unstructured", compare: "row", norms });
    const changes = projections.map((projection) => ({
      columns: columnsOf(expert, projection),
      values: expert[projection].map((value, i) => value - masked[projection][i]!),
    }));
    let sum = 0;
    for await (const { rows, intermediates } of chunksOfExpert(engine, collected, tokens, expert)) {
      for (const [p, { columns, values }] of changes.entries()) {
        const lost = await engine.timesTransposed(
          projections[p] === "downProj" ? intermediates : rows,
          values,
          columns,
        );
        for (let i = 0; i < lost.length; i++) sum += lost[i]! ** 2;
      }
    }
    ofExperts.push(sum);
  }
  return { layer: collected.layer.index, ofLayer: total(ofExperts), ofExperts };
}

async function expertWithNorms(
  { engine, collected, routed, weighted }: DemandWork,
  e: number,
): Promise<{ expert: ExpertMatrices; norms: InputNorms }> {
  const { moe, layer } = collected;
  const expert = await readExpert(engine.checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer.index}`);
  return { expert, norms: await inputNorms(engine, collected, routed[e]!, expert, weighted) };
}

/** Sum of all scores, and how many are above `limit`. */
function scoresAbove(expert: ExpertMatrices, norms: InputNorms, limit: number): [sum: number, above: number] {
  let [sum, above] = [0, 0];
  for (const projection of projections) {
    const columns = columnsOf(expert, projection);
    const factors = normsOf(norms, projection)!;
    const values = expert[projection];
    for (let i = 0; i < values.length; i++) {
      const score = Math.abs(values[i]!) * factors[i % columns]!;
      sum += score;
      if (score > limit) above++;
    }
  }
  return [sum, above];
}

function total(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0);
}
