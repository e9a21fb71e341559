import { z } from "zod";

/** Calibration sequences that candidates of a search run through the model. */
export const searchSequences = 16;

/** What candidates are compared by: their overlap with the teacher's next-token distribution, KL, or loss. */
const fitnesses = ["esp", "kl", "loss"] as const;

export const oneOf = <const T extends readonly string[]>(values: T, otherwise = "") =>
  z.enum(values, { error: `it can be ${values.join(", ")}${otherwise}` });
export const wholeNumber = (least: number) => {
  const error = `give a whole number of at least ${least}`;
  return z.int({ error }).min(least, { error });
};

/** What an evolutionary search of budgets across layers does; with `when` it is done. */
export function searchOptions(when: string) {
  return {
    population: wholeNumber(2).default(16).describe(`${when}: candidates of a generation`),
    generations: wholeNumber(0)
      .default(15)
      .describe(`${when}: generations; each measures three quarters of the population anew`),
    fitness: oneOf(fitnesses)
      .default("esp")
      .describe(
        `${when}, what is best. esp: the overlap of the next-token distributions; kl: the divergence from the teacher's; loss: the loss on the text`,
      ),
  };
}
export type SearchOptions = z.infer<z.ZodObject<ReturnType<typeof searchOptions>>>;

/** The same for methods whose option `sequences` says what else they look at. */
export function separateSearchOptions(when: string) {
  return {
    ...searchOptions(when),
    searchSequences: wholeNumber(1)
      .default(searchSequences)
      .describe(`${when}: calibration sequences that every candidate runs through the model`),
  };
}
