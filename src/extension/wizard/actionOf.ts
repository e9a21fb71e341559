import { hasNoRatio } from "../../protocol/methods";
import type { WizardState } from "./questions";

/** What the answers do to a checkpoint, for names: "reap-0.5", "evaluate". */
export function actionOf({ context, answers }: Pick<WizardState, "context" | "answers">): string {
  if (context.purpose === "distil") return `distilled-${answers.preset ?? "kd"}`;
  const { method = "", keep, options } = answers;
  if (keep === undefined) return context.purpose;
  if (method === "" || method === "none" || !hasNoRatio(method)) return `${method}-${keep}`;
  const bits = options?.method === method ? options.chosen["bits"] : undefined;
  return bits === undefined ? method : `${method}-${bits}bit`;
}
