import type { z } from "zod";
import type { mergeGroupSchema } from "../../../protocol/plan";
import type { CollectedLayer } from "../../execution/collectLayers";
import { matrix, toFloat32, transpose, type Matrix } from "../../linalg/matrix";
import { solveSymmetric } from "../../linalg/cholesky";
import type { MatrixProducts } from "../../linalg/products";
import { readExpert, type ExpertMatrices } from "../layer/expertMatrices";
import { chunks, chunkTokens, gatherRows, tokensJoined, tokensOfAny, type LayerEngine } from "../layer/layerEngine";
import { matchByWeights, permuteUnits } from "./align";
import { ExpertAverage } from "./average";
import { matchByProfiles, unitProfiles } from "./profiles";
import { combineUnits, correlation, zeroTriangle, zipUnits, type Triangle, type UnitSource } from "./unitClusters";

export type MergeGroup = z.infer<typeof mergeGroupSchema>;

/** How the members of a group become one expert. */
export type MergeRule = "average" | "fix-dominant" | "zipit" | "least-squares";

export interface MergeOptions {
  rule: MergeRule;
  alignment: "none" | "weights" | "activations";
  /** ZipIt and fix-dominant: what happens to down columns of joined units. */
  downColumns: "mean" | "sum";
  /** ZipIt and fix-dominant: whether a token routed to two members counts once or twice. */
  tokens: "union" | "joined";
  /** Fix-dominant: what joined units weigh. */
  unitWeights: "frequency" | "even";
  /** ZipIt: groups with more members are merged by fix-dominant, whose cost grows linearly. */
  zipLimit: number;
  seed: number;
}

/** What merging one group may use. */
export interface MergeWorkspace {
  engine: LayerEngine;
  products: MatrixProducts;
  /** Null for rules that look at weights only. */
  collected: CollectedLayer | null;
  tokensByExpert: readonly Int32Array[];
  moe: CollectedLayer["moe"];
  layer: number;
}

/** Rules and alignments that look at what experts do with tokens. */
export function needsActivations({ rule, alignment }: Pick<MergeOptions, "rule" | "alignment">): boolean {
  return rule !== "average" || alignment === "activations";
}

/** The one expert that stands for a group. Notes say what had to be decided. */
export async function mergeGroup(
  workspace: MergeWorkspace,
  group: MergeGroup,
  options: MergeOptions,
  notes: string[],
): Promise<ExpertMatrices> {
  const { rule } = options;
  const tokensOf = options.tokens === "joined" && rule !== "least-squares" ? tokensJoined : tokensOfAny;
  const tokens = rule === "average" ? null : tokensOf(workspace.tokensByExpert, group.members);
  if (tokens !== null && tokens.length < 2) {
    // Nothing to correlate: HC-SMoE's code returns the first member; the average loses less and needs no tokens.
    notes.push(
      `layer ${workspace.layer}: experts ${group.members.join(", ")} were reached by ${tokens.length} tokens, too few for ` +
        `${rule}; averaged instead`,
    );
    return average(workspace, group, options);
  }
  switch (rule) {
    case "average":
      return average(workspace, group, options);
    case "least-squares":
      return leastSquares(workspace, group, options, tokens!);
    case "zipit":
    case "fix-dominant":
      return joinUnits(workspace, group, options, tokens!, notes);
  }
}

/** sum_i weight_i W_i in float64, each member's units first put in the dominant's order. */
async function average(workspace: MergeWorkspace, group: MergeGroup, options: MergeOptions): Promise<ExpertMatrices> {
  const { engine } = workspace;
  const { alignment } = options;
  const sum = new ExpertAverage();
  const dominant = await read(workspace, group.dominant);
  const profileOf = (expert: ExpertMatrices) => unitProfiles(engine, workspace.collected!, expert, options.seed);
  const dominantProfile = alignment === "activations" ? await profileOf(dominant) : null;
  for (const [i, member] of group.members.entries()) {
    let expert = member === group.dominant ? dominant : await read(workspace, member);
    if (member !== group.dominant && alignment === "weights") {
      expert = permuteUnits(expert, await matchByWeights(engine, dominant, expert));
    } else if (member !== group.dominant && dominantProfile !== null) {
      expert = permuteUnits(expert, await matchByProfiles(engine, dominantProfile, await profileOf(expert)));
    }
    sum.add(expert, group.weights[i]!);
  }
  return sum.result();
}

/**
 * MergeMoE (arXiv 2510.14436): gate and up are weighted means; the down projection is the least-squares map from the
 * merged intermediate activations P to sum_i w_i W_down,i Q_i, over the tokens routed to the group. A ridge of 1e-6 of
 * the mean diagonal keeps units that never fire from blowing up. Biases of the down projection are averaged.
 */
async function leastSquares(
  workspace: MergeWorkspace,
  group: MergeGroup,
  options: MergeOptions,
  tokens: Int32Array,
): Promise<ExpertMatrices> {
  const { engine, products, moe, collected } = workspace;
  const merged = await average(workspace, group, options);
  const { intermediateSize: I, hiddenSize: H } = merged;
  const gram = new Float64Array(I * I);
  const cross = new Float64Array(I * H);
  const members = await Promise.all(group.members.map((member) => read(workspace, member)));
  for (const [from, to] of chunks(tokens.length, chunkTokens)) {
    const x = gatherRows(collected!.inputs, tokens.subarray(from, to));
    const p = await engine.intermediate(moe, merged, x);
    await engine.addGram(p, I, gram);
    const target = new Float32Array((to - from) * H);
    for (const [i, member] of members.entries()) {
      const y = await engine.timesTransposed(await engine.intermediate(moe, member, x), member.downProj, I);
      const weight = group.weights[i]!;
      for (let j = 0; j < y.length; j++) target[j]! += weight * y[j]!;
    }
    await engine.addCross(p, I, target, H, cross);
  }
  const normal = matrix(I, I, gram);
  let diagonal = 0;
  for (let i = 0; i < I; i++) diagonal += gram[i * I + i]! / I;
  for (let i = 0; i < I; i++) normal.data[i * I + i]! += 1e-6 * diagonal + Number.MIN_VALUE;
  const solution: Matrix = await solveSymmetric(products, normal, matrix(I, H, cross));
  return { ...merged, downProj: toFloat32(transpose(solution)) };
}

/** ZipIt or fix-dominant: units joined by the correlation of their activations over the group's tokens. */
async function joinUnits(
  workspace: MergeWorkspace,
  group: MergeGroup,
  { rule, downColumns, unitWeights, zipLimit }: MergeOptions,
  tokens: Int32Array,
  notes: string[],
): Promise<ExpertMatrices> {
  const { engine, moe, collected, layer } = workspace;
  // The centre first, so that its units come first in every tie.
  const centre = group.centre ?? group.dominant;
  const order = [centre, ...group.members.filter((member) => member !== centre)];
  const experts = await Promise.all(order.map((member) => read(workspace, member)));
  const I = experts[0]!.intermediateSize;
  const zips = rule === "zipit" && order.length <= zipLimit;
  if (rule === "zipit" && !zips) {
    notes.push(
      `layer ${layer}: a group of ${order.length} exceeds zipLimit ${zipLimit}; merged by fix-dominant instead`,
    );
  }
  const shares = order.map((member) =>
    unitWeights === "even" && !zips ? 1 / order.length : group.weights[group.members.indexOf(member)]!,
  );
  if (zips) {
    const similarity = await unitCorrelation(experts);
    const clusters = zipUnits(similarity, I).map((units) =>
      units.map((u): UnitSource => ({ expert: Math.floor(u / I), unit: u % I, weight: 1 })),
    );
    return combineUnits(experts, clusters, downColumns, shares);
  }
  const clusters: UnitSource[][] = Array.from({ length: I }, (_, unit) => [{ expert: 0, unit, weight: shares[0]! }]);
  for (let e = 1; e < experts.length; e++) {
    // Pairs only: memory for 2 I units, however large the group.
    const similarity = await unitCorrelation([experts[0]!, experts[e]!]);
    for (let unit = 0; unit < I; unit++) {
      const row = similarity[I + unit]!;
      let best = 0;
      for (let j = 1; j < I; j++) if (row[j]! > row[best]!) best = j;
      clusters[best]!.push({ expert: e, unit, weight: shares[e]! });
    }
  }
  return combineUnits(experts, clusters, downColumns, shares);

  async function unitCorrelation(of: readonly ExpertMatrices[]): Promise<Triangle<Float32Array>> {
    const gram = zeroTriangle(of.length * I);
    const sums = new Float64Array(of.length * I);
    for (const [from, to] of chunks(tokens.length, chunkTokens)) {
      const x = gatherRows(collected!.inputs, tokens.subarray(from, to));
      const activations: Float32Array[] = [];
      for (const expert of of) activations.push(await engine.intermediate(moe, expert, x));
      await engine.addTriangle(activations, I, gram, sums);
    }
    return correlation(gram, sums, tokens.length);
  }
}

function read({ engine, moe, layer }: MergeWorkspace, expert: number): Promise<ExpertMatrices> {
  return readExpert(engine.checkpoint, moe.experts[expert]!, `expert ${expert} of layer ${layer}`);
}
