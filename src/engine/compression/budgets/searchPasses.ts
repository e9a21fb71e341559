import type { CompressOptions } from "../../../protocol/recipe";
import { numberOf } from "../cost/layerCost";
import { candidates } from "./evolution";
import { searchSequences } from "./searchOptions";

/**
 * Passes of the model that a search takes, counted in those of a method that runs `sequences` where its options name none: once for
 * each candidate, and once for the original.
 */
export function searchPasses(options: CompressOptions["options"], sequences: number): number {
  const generations = options["generations"];
  const measured = candidates(numberOf(options, "population", 16), typeof generations === "number" ? generations : 15);
  const share = numberOf(options, "searchSequences", searchSequences) / numberOf(options, "sequences", sequences);
  return (1 + measured) * share;
}
