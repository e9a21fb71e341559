import { existsSync } from "node:fs";
import path from "node:path";
import type { Recipe } from "./recipe";

/** "org/name" or "org/name@revision", as models of the Hugging Face cache are written. */
const hubName = /^\w[\w.-]*\/\w[\w.-]*(?:@[\w.-]+)?$/;

/**
 * The same recipe with absolute paths, so that it means the same wherever it is kept. A checkpoint that lies at no such path and is
 * written as a model of the Hugging Face cache stays as it is. Only for code that runs in Node.
 */
export function withAbsolutePaths(recipe: Recipe, baseFolder: string): Recipe {
  const at = (file: string): string => path.resolve(baseFolder, file);
  const checkpoint = (written: string): string =>
    hubName.test(written) && !existsSync(at(written)) ? written : at(written);
  const { teacher, student, data, compress, output, ...rest } = recipe;
  const { calibration, evaluation, tokenizer, ...text } = data;
  return {
    ...rest,
    teacher: checkpoint(teacher),
    ...(student === undefined ? {} : { student: checkpoint(student) }),
    data: {
      calibration: at(calibration),
      ...(evaluation === undefined ? {} : { evaluation: at(evaluation) }),
      ...(tokenizer === undefined ? {} : { tokenizer: checkpoint(tokenizer) }),
      ...text,
    },
    ...(compress === undefined
      ? {}
      : { compress: { ...compress, ...(compress.plan === undefined ? {} : { plan: at(compress.plan) }) } }),
    output: at(output),
  };
}
