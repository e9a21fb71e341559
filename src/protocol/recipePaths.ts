import { existsSync } from "node:fs";
import path from "node:path";
import type { CompressOptions, Recipe } from "./recipe";

function withPlanAt(compress: CompressOptions, at: (file: string) => string): CompressOptions {
  return compress.plan === undefined ? compress : { ...compress, plan: at(compress.plan) };
}

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
  const { teacher, student, source, data, compress, steps, output, ...rest } = recipe;
  const { calibration, evaluation, tokenizer, task, ...text } = data;
  return {
    ...rest,
    teacher: checkpoint(teacher),
    ...(student === undefined ? {} : { student: typeof student === "string" ? checkpoint(student) : student }),
    ...(source === undefined ? {} : { source: checkpoint(source) }),
    data: {
      calibration: at(calibration),
      ...(evaluation === undefined ? {} : { evaluation: at(evaluation) }),
      ...(tokenizer === undefined ? {} : { tokenizer: checkpoint(tokenizer) }),
      ...(task === undefined ? {} : { task: at(task) }),
      ...text,
    },
    ...(compress === undefined ? {} : { compress: withPlanAt(compress, at) }),
    ...(steps === undefined
      ? {}
      : {
          steps: steps.map((step) => ({
            ...step,
            ...(step.compress ? { compress: withPlanAt(step.compress, at) } : {}),
          })),
        }),
    output: at(output),
  };
}
