import path from "node:path";
import { cellId, comparisonFiles, type ComparisonRecipe } from "../../../protocol/compare";
import { paradigmOf, type CompressionMethod, type Recipe } from "../../../protocol/recipe";

/** One method at one ratio: an ordinary run in a folder of its own. */
export interface Cell {
  id: string;
  method: CompressionMethod;
  keep: number;
  runDirectory: string;
  recipe: Recipe;
}

const defaults: NonNullable<ComparisonRecipe["compress"]> = {
  protectSuperExperts: "off",
  reapWeights: "model",
  groupLimits: "keep",
};

/** The grid's cells, ratio by ratio, each once. Without calibration the compressed checkpoint is the cell's output. */
export function cellsOf(comparison: ComparisonRecipe, directory: string, name: string): Cell[] {
  const { grid, compress, methodOptions, teacher, data, calibrate, seed, memory, threads, provider } = comparison;
  return [...new Set(grid.keep)].flatMap((keep) =>
    [...new Set(grid.methods)].map((method): Cell => {
      const id = cellId(method, keep);
      const runDirectory = path.join(directory, comparisonFiles.cells, id);
      const { multipleOf, ...shared } = compress ?? defaults;
      const recipe: Recipe = {
        schemaVersion: 1,
        name: `${name}: ${method} at ${keep}`,
        teacher,
        data,
        compress: {
          ...{ ...shared, method, keep, options: methodOptions[method] ?? {} },
          // Methods that keep all experts have no count to round.
          ...(multipleOf === undefined || paradigmOf(method) === "editing" ? {} : { multipleOf }),
        },
        ...(calibrate ? { calibrate } : {}),
        output: path.join(runDirectory, "checkpoint"),
        seed,
        ...(memory === undefined ? {} : { memory }),
        ...(threads === undefined ? {} : { threads }),
        provider,
      };
      return { id, method, keep, runDirectory, recipe };
    }),
  );
}
