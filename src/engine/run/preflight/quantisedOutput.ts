import { loaderNotes } from "../../compression/quantising/loaders";
import { uniformPlan } from "../../compression/quantising/quantisationPlan";
import type { ModelDescription } from "../../model/description";
import type { CompressionPlan } from "../../../protocol/plan";
import { paradigmOf } from "../../../protocol/methods";
import type { CompressOptions } from "../../../protocol/recipe";
import { RerouteError } from "../../../protocol/errors";

/**
 * Who loads what a quantisation will write, said before any work; nothing for other methods.
 * @param plan the plan to apply; null: the method's own
 * @param force goes on although a loader computes other numbers without a message, which is said all the same
 * @throws RerouteError plan/invalid where one does
 */
export function quantisedOutput(
  compress: CompressOptions,
  plan: CompressionPlan | null,
  description: ModelDescription,
  force = false,
): string[] {
  const made = plan ?? (paradigmOf(compress.method) === "quantisation" ? uniformPlan(description, compress) : null);
  if (made?.paradigm !== "quantisation") return [];
  const { notes, wrong } = loaderNotes(made, description);
  if (wrong.length === 0) return notes;
  const message = `The plan gives layers different bits or groups: ${wrong.join(", ")} would load the result without a message and compute other numbers`;
  if (force) return [...notes, message];
  throw new RerouteError("plan/invalid", `${message}; give all layers the same, or use --force to go on`);
}
