import type { Projection } from "../layer/expertMatrices";
import { matrix, toFloat32 } from "../../linalg/matrix";
import { gramOf, shapeOf, type EditedProjection, type EditWorkspace } from "./editWorkspace";
import { denseOf, lowRank } from "./lowRank";

/** Plain SVD, or SVD-LLM where `weighted`: each expert's matrix alone. */
export function editBySvd(
  workspace: EditWorkspace,
  projection: Projection,
  rank: number,
  weighted: boolean,
): EditedProjection {
  const { products, context } = workspace;
  const [rows, columns] = shapeOf(workspace, projection);
  return {
    form: "low-rank",
    shared: {},
    ownShapes: { left: [rows, rank], right: [rank, columns] },
    ofExpert: async (expert, original) => {
      const full = rank >= Math.min(rows, columns);
      const gram = weighted && !full ? await gramOf(workspace, expert, projection) : null;
      const factors = await lowRank(products, matrix(rows, columns, original), rank, gram, context.signal);
      // Nothing is cut at full rank, so nothing is rounded either.
      const dense = full ? original : toFloat32(await denseOf(products, factors));
      return { dense, own: { left: toFloat32(factors.left), right: toFloat32(factors.right) } };
    },
  };
}
