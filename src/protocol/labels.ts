import { z } from "zod";
import type { RunSummary } from "./panels";

/** labels.json of a run's or comparison's folder: what people call it. No stage reads it, so it never changes a result. */
export const runLabels = z.object({
  schemaVersion: z.literal(1),
  name: z.string().min(1).max(200).nullable().describe("In place of the recipe's name"),
  tags: z.array(z.string().min(1).max(40)).max(20),
});
export type RunLabels = z.infer<typeof runLabels>;

export const noLabels: RunLabels = { schemaVersion: 1, name: null, tags: [] };

/** "baseline, #lr 3" -> ["baseline", "lr 3"]: tags as people write them, each once. */
export function tagsOf(text: string): string[] {
  const tags = text.split(",").map((tag) => tag.trim().replace(/^#\s*/, ""));
  return [...new Set(tags.filter((tag) => tag !== ""))];
}

/**
 * Whether a run is among what somebody looks for: every word is part of its name, folder, tags, method, state, verdict, teacher
 * or date (`2026-11`), in any order and case. "#word" looks at tags alone. Nothing finds all.
 */
export function isFound(
  run: Pick<RunSummary, "id" | "name" | "tags" | "method" | "state" | "verdict" | "teacher" | "createdAt">,
  search: string,
): boolean {
  const tags = run.tags.map((tag) => tag.toLowerCase());
  const text = [
    run.name,
    run.id,
    ...run.tags,
    run.method,
    run.state,
    run.verdict,
    run.teacher,
    run.createdAt.slice(0, 10),
  ]
    .join("\n")
    .toLowerCase();
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return words.every((word) =>
    word.startsWith("#") ? tags.some((tag) => tag.includes(word.slice(1))) : text.includes(word),
  );
}
