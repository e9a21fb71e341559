import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { RuntimeOptions } from "../runtime/session";

type Chosen = Pick<CalibrateOptions, "teacherRouting" | "match" | "onPolicy">;

/** Whether the teacher runs while the student trains: with routers that train, and where layers are matched. */
export function teacherStays({ teacherRouting, match }: Pick<Chosen, "teacherRouting" | "match">): boolean {
  return teacherRouting?.kind === "student-aware" || match !== undefined;
}

/** Models that are open at once: the student, a teacher that stays, and what writes or teaches a round beside them. */
export function modelsAtOnce(options: Chosen): number {
  return 1 + (teacherStays(options) ? 1 : 0) + (options.onPolicy === undefined ? 0 : 1);
}

/** Of several models in one process, each has its part of the budget. */
export function budgetOfEach(budgetBytes: number, options: Chosen): number {
  return Math.floor(budgetBytes / modelsAtOnce(options));
}

export function runtimeOfEach(runtime: RuntimeOptions, options: Chosen): RuntimeOptions {
  return { ...runtime, memoryBudgetBytes: budgetOfEach(runtime.memoryBudgetBytes, options) };
}
