import type { Projection } from "../layer/expertMatrices";
import { matrix, subtract, toFloat32 } from "../../linalg/matrix";
import { gramOf, shapeOf, weightOf, type EditedProjection, type EditWorkspace } from "./editWorkspace";
import { denseOf, lowRank } from "./lowRank";

/**
 * D2-MoE (arXiv 2502.17298): a base shared by all experts of the layer, the average by frequency (or the plain mean), and
 * each expert's difference from it cut to low rank by SVD-LLM with the expert's own Gram matrix. The authors' default base
 * weighs entries by the Fisher information of the loss and prunes the base further; neither is done here.
 */
export async function editByBaseDelta(
  workspace: EditWorkspace,
  projection: Projection,
  rank: number,
  base: "frequency" | "mean",
): Promise<EditedProjection> {
  const { moe, grams, products, context } = workspace;
  const [rows, columns] = shapeOf(workspace, projection);
  const use = Array.from({ length: moe.numExperts }, (_, e) => (base === "frequency" ? grams!.routed(e) : 1));
  const total = use.reduce((sum, value) => sum + value, 0);
  const shared = matrix(rows, columns);
  for (let e = 0; e < moe.numExperts; e++) {
    if (use[e] === 0) continue;
    const { data } = await weightOf(workspace, e, projection);
    const share = use[e]! / total;
    for (let i = 0; i < data.length; i++) shared.data[i]! += share * data[i]!;
  }
  const full = rank >= Math.min(rows, columns);
  return {
    form: "low-rank",
    shared: { base: { shape: [rows, columns], values: toFloat32(shared) } },
    ownShapes: { left: [rows, rank], right: [rank, columns] },
    ofExpert: async (expert, original) => {
      const delta = subtract(matrix(rows, columns, original), shared);
      const gram = full ? null : await gramOf(workspace, expert, projection);
      const factors = await lowRank(products, delta, rank, gram, context.signal);
      const approximated = await denseOf(products, factors);
      for (let i = 0; i < approximated.data.length; i++) approximated.data[i]! += shared.data[i]!;
      return {
        dense: full ? original : toFloat32(approximated),
        own: { left: toFloat32(factors.left), right: toFloat32(factors.right) },
      };
    },
  };
}
