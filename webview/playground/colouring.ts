import type { PlaygroundScores } from "../../src/protocol/playground";

/** What tokens are coloured by. */
export const colourings = ["kl", "nll", "expert", "weight", "none"] as const;
export type Colouring = (typeof colourings)[number];

export type TextScores = PlaygroundScores["texts"][number];

/** Whose numbers colour a response: its author's, and in the teacher's own (whose KL to itself is 0) the last student's. */
export function speakerOf(author: number, teacher: number | null, models: number, colouring: Colouring): number {
  if (colouring !== "kl" || author !== teacher) return author;
  return models - 1 === teacher ? models - 2 : models - 1;
}

/** The number that colours each token of a response; null where there is none. */
export function valuesOf(text: TextScores, speaker: number, colouring: "kl" | "nll" | "weight"): (number | null)[] {
  const score = text.models[speaker];
  if (!score) return text.pieces.map(() => null);
  if (colouring !== "weight") return score[colouring] ?? text.pieces.map(() => null);
  const { routing } = score;
  return text.pieces.map((_, token) => routing?.weights[token * routing.numExpertsPerToken] ?? null);
}

/** The largest of the numbers that colour any response; 0 without one. */
export function largestOf(
  scores: PlaygroundScores,
  teacher: number | null,
  colouring: "kl" | "nll" | "weight",
): number {
  const all = scores.texts.flatMap((text, author) =>
    valuesOf(text, speakerOf(author, teacher, scores.texts.length, colouring), colouring),
  );
  return all.reduce<number>((most, value) => Math.max(most, value ?? 0), 0);
}

/** Where a value lies on the scale, 0..1: by its square root, since a few tokens differ far more than the others. */
export function scaleShare(value: number, largest: number): number {
  return largest > 0 ? Math.sqrt(Math.max(0, value) / largest) : 0;
}

/** The expert with the largest routing weight of each token, on the teacher's numbers where there are any; null: none. */
export function firstExperts(text: TextScores, author: number): (number | null)[] {
  const routing = text.models[author]?.routing;
  return text.pieces.map((_, token) => {
    const expert = routing?.experts[token * routing.numExpertsPerToken];
    if (expert === undefined) return null;
    return routing?.teacherExperts?.[expert]?.[0] ?? expert;
  });
}
