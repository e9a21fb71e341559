import path from "node:path";
import type { Recipe } from "./recipe";

/** The same recipe with absolute paths, so that it means the same wherever it is kept. Only for code that runs in Node. */
export function withAbsolutePaths(recipe: Recipe, baseFolder: string): Recipe {
  const at = (file: string): string => path.resolve(baseFolder, file);
  const { teacher, student, data, compress, output, ...rest } = recipe;
  const { calibration, evaluation, tokenizer, ...text } = data;
  return {
    ...rest,
    teacher: at(teacher),
    ...(student === undefined ? {} : { student: at(student) }),
    data: {
      calibration: at(calibration),
      ...(evaluation === undefined ? {} : { evaluation: at(evaluation) }),
      ...(tokenizer === undefined ? {} : { tokenizer: at(tokenizer) }),
      ...text,
    },
    ...(compress === undefined
      ? {}
      : { compress: { ...compress, ...(compress.plan === undefined ? {} : { plan: at(compress.plan) }) } }),
    output: at(output),
  };
}
