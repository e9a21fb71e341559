import path from "node:path";
import { armId, cellId, comparisonFiles, pipelineId, type ComparisonRecipe } from "../../../protocol/compare";
import { paradigmOf, type CompressionMethod } from "../../../protocol/methods";
import type { Recipe } from "../../../protocol/recipe";

/** One method at one ratio, one pipeline, or one arm with one seed: an ordinary run in a folder of its own. */
export interface Cell {
  id: string;
  /** Null for a pipeline and an arm, as is `keep`. */
  method: CompressionMethod | null;
  keep: number | null;
  pipeline?: string;
  arm?: string;
  runDirectory: string;
  recipe: Recipe;
}

const defaults: NonNullable<ComparisonRecipe["compress"]> = {
  protectSuperExperts: "off",
  reapWeights: "model",
  groupLimits: "keep",
};

/** The grid's cells, ratio by ratio, each once, then its pipelines and arms. Without calibration the compressed checkpoint is the cell's output. */
export function cellsOf(comparison: ComparisonRecipe, directory: string, name: string): Cell[] {
  const { grid, compress, methodOptions, teacher, student, data, calibrate, seed, memory, threads, provider } =
    comparison;
  const shared = (id: string, does: string) => {
    const runDirectory = path.join(directory, comparisonFiles.cells, id);
    const common = {
      ...{ schemaVersion: 1 as const, name: `${name}: ${does}`, teacher, data },
      output: path.join(runDirectory, "checkpoint"),
      seed,
      ...(memory === undefined ? {} : { memory }),
      ...(threads === undefined ? {} : { threads }),
      provider,
    };
    return { runDirectory, common };
  };
  const single = [...new Set(grid.keep)].flatMap((keep) =>
    [...new Set(grid.methods)].map((method): Cell => {
      const id = cellId(method, keep);
      const { runDirectory, common } = shared(id, `${method} at ${keep}`);
      const { multipleOf, ...options } = compress ?? defaults;
      const recipe: Recipe = {
        ...common,
        compress: {
          ...{ ...options, method, keep, options: methodOptions[method] ?? {} },
          // Methods that keep all experts have no count to round.
          ...(multipleOf === undefined || paradigmOf(method) === "editing" ? {} : { multipleOf }),
        },
        ...(calibrate ? { calibrate } : {}),
      };
      return { id, method, keep, runDirectory, recipe };
    }),
  );
  const pipelines = (grid.pipelines ?? []).map(({ name: pipeline, steps }): Cell => {
    const id = pipelineId(pipeline);
    const { runDirectory, common } = shared(id, pipeline);
    return { id, method: null, keep: null, pipeline, runDirectory, recipe: { ...common, steps } };
  });
  const arms = (grid.arms ?? []).flatMap(({ name: arm, seeds = [seed], learningRate, ...choices }) =>
    seeds.map((own): Cell => {
      const id = armId(arm, own);
      const { runDirectory, common } = shared(id, arm);
      const options = { ...calibrate!, ...choices, ...(learningRate === undefined ? {} : { learningRate }) };
      return {
        ...{ id, method: null, keep: null, arm, runDirectory },
        recipe: { ...common, student: student!, calibrate: options, seed: own },
      };
    }),
  );
  return [...single, ...pipelines, ...arms];
}
