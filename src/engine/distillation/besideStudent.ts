import type { CalibrateOptions } from "../../protocol/recipe";
import type { RuntimeOptions } from "../runtime/session";

/** Whether the teacher runs while the student trains: with routers that train, and where layers are matched. */
export function teacherStays({ teacherRouting, match }: Pick<CalibrateOptions, "teacherRouting" | "match">): boolean {
  return teacherRouting?.kind === "student-aware" || match !== undefined;
}

/** Of two models in one process, each has half of the budget. */
export function budgetOfEach(budgetBytes: number, options: Pick<CalibrateOptions, "teacherRouting" | "match">): number {
  return teacherStays(options) ? Math.floor(budgetBytes / 2) : budgetBytes;
}

export function runtimeOfEach(
  runtime: RuntimeOptions,
  options: Pick<CalibrateOptions, "teacherRouting" | "match">,
): RuntimeOptions {
  return { ...runtime, memoryBudgetBytes: budgetOfEach(runtime.memoryBudgetBytes, options) };
}
