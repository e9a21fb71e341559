import type { Projection } from "../layer/expertMatrices";
import { matrix, toFloat32 } from "../linalg/matrix";
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
  return {
    ofExpert: async (expert, original) => {
      const [rows, columns] = shapeOf(workspace, projection);
      if (rank >= Math.min(rows, columns)) return original;
      const gram = weighted ? await gramOf(workspace, expert, projection) : null;
      const factors = await lowRank(products, matrix(rows, columns, original), rank, gram, context.signal);
      return toFloat32(await denseOf(products, factors));
    },
  };
}
