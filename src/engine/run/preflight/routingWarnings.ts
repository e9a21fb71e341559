import { RerouteError } from "../../../protocol/errors";
import type { CompressOptions, Recipe } from "../../../protocol/recipe";
import { compressedDescription } from "../../compression/compressedDescription";
import { droppedLimitsNote } from "../../compression/plan/groupLimits";
import { moeLayers } from "../../model/moeLayers";
import type { ModelDescription } from "../../model/description";

/** What is to be expected of a recipe because of how the model routes; said before any work. */
export function routingWarnings(recipe: Recipe, description: ModelDescription): string[] {
  const layers = moeLayers(description);
  const warnings: string[] = [];
  if (recipe.calibrate && layers.some(({ moe }) => moe.routing.kind === "sparse-mixer")) {
    warnings.push(
      `The routers of ${description.family} (SparseMixer in evaluation mode) get next to no gradient: a routing weight is a ` +
        `softmax over the logits close to the largest, often over that one alone, and then it does not depend on the logits. ` +
        `Expect little change from calibration; the held-out KL before and after tells`,
    );
  }
  if (recipe.compress?.groupLimits === "drop" && recipe.compress.plan === undefined) {
    warnings.push(...droppedLimitsNote(layers));
  }
  return warnings;
}

/** Servers place experts in groups of this size: their routing kernels and expert parallelism need counts that divide. */
const placedTogether = 8;

/**
 * What servers and the model's positions will make of a recipe; said before any work.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function fittingWarnings(
  { compress, data, student }: Recipe,
  description: ModelDescription,
  maxPositions: unknown,
): string[] {
  const warnings: string[] = [];
  if (typeof maxPositions === "number" && data.sequenceLength > maxPositions) {
    warnings.push(
      `Sequences of ${data.sequenceLength} tokens are longer than the ${maxPositions} positions of this model (max_position_embeddings); what it does with the rest says little. --sequence-length ${maxPositions} fits`,
    );
  }
  if (compress && compress.plan === undefined && student === undefined) {
    warnings.push(...placementNotes(compress, description));
  }
  return warnings;
}

/**
 * Whether servers can place as many experts as stay, what would be placed, and what rounding (`multipleOf`) changes.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function placementNotes(compress: CompressOptions, description: ModelDescription): string[] {
  const { keep, multipleOf } = compress;
  const before = moeLayers(description).map(({ moe }) => moe.numExperts);
  const after = countsAfter(compress, description);
  const asked = multipleOf === undefined ? after : possibleCounts({ ...compress, multipleOf: 1 }, description);
  const notes = after.flatMap((count, i) => {
    if (multipleOf !== undefined) {
      if (count === asked?.[i]) return [];
      const means = asked === null ? "alone is not possible" : `means ${asked[i]} of ${before[i]} experts a layer`;
      return [`keep ${keep} ${means}; ${count} stay, the nearest multiple of ${multipleOf}`];
    }
    if (count >= before[i]! || count % placedTogether === 0) return [];
    return [
      `${count} experts a layer would stay, which is no multiple of ${placedTogether}: servers that split experts over devices, and some routing kernels of vLLM, cannot place them. ${advice(compress, description, i)}`,
    ];
  });
  return [...new Set(notes)];
}

/** Experts that stay in each MoE layer. */
function countsAfter(compress: CompressOptions, description: ModelDescription): number[] {
  return moeLayers(compressedDescription(description, compress, null)).map(({ moe }) => moe.numExperts);
}

/** The same; null where this is impossible. */
function possibleCounts(compress: CompressOptions, description: ModelDescription): number[] | null {
  try {
    return countsAfter(compress, description);
  } catch (error) {
    if (error instanceof RerouteError) return null;
    throw error;
  }
}

function advice(compress: CompressOptions, description: ModelDescription, i: number): string {
  try {
    const count = countsAfter({ ...compress, multipleOf: placedTogether }, description)[i]!;
    return `--multiple-of ${placedTogether} (multipleOf in a recipe) would keep ${count}`;
  } catch (error) {
    if (!(error instanceof RerouteError)) throw error;
    return `--multiple-of ${placedTogether} (multipleOf in a recipe) finds no count that fits: ${error.message}`;
  }
}
