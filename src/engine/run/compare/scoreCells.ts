import { readFile } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import type { ComparisonRecipe } from "../../../protocol/compare";
import type { ReportProgress } from "../../../protocol/progress";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { openCheckpoint } from "../../checkpoint/open";
import { fingerprintCheckpoint } from "../../checkpoint/fingerprint";
import type { ResponsesWanted } from "../preflight/estimates";
import { readInstructions, scoreResponses, type Instructions } from "../scoreResponses";
import type { Cell } from "./cells";

/** scores.json of an arm's cell: what its student's responses came to, and a hash of what they were made from. */
const scoresFile = z.object({
  key: z.string(),
  prompts: z.int(),
  bySeed: z.array(z.object({ seed: z.int(), rougeL: z.number() })),
});
type ScoresFile = z.infer<typeof scoresFile>;

const fileName = "scores.json";

/** Scores of the students that a comparison's arms taught; null where its file asks for none. */
export interface CellScorer {
  /** What each student writes. */
  responses: ResponsesWanted;
  /** Where the cell has none yet, or its student or the instructions have changed since. */
  score(cell: Cell, report?: ReportProgress): Promise<void>;
}

/**
 * Reads the instructions, so that what is wrong with them is said before anything runs.
 * @throws RerouteError those of readInstructions
 */
export async function openCellScorer(
  { score, teacher, memory, threads }: ComparisonRecipe,
  baseFolder: string,
  signal: AbortSignal,
): Promise<CellScorer | null> {
  if (score === undefined) return null;
  const { data: file, column, most, seeds, maxNewTokens, temperature, topP } = score;
  const options = {
    maxNewTokens,
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { topP }),
  };
  const data = path.resolve(baseFolder, file);
  const instructions = await readInstructions({
    ...{ checkpoint: path.resolve(baseFolder, teacher), data, column, most },
  });
  return {
    responses: { sequences: instructions.prompts.length, tokens: maxNewTokens, seeds: seeds.length },
    score: async ({ id, arm, runDirectory, recipe }, report) => {
      if (arm === undefined) return;
      const checkpoint = path.resolve(baseFolder, recipe.output);
      const key = await keyOf(checkpoint, instructions, { seeds, options }, signal);
      if ((await readScores(runDirectory))?.key === key) return;
      const total = seeds.length * instructions.prompts.length;
      let done = 0;
      const { prompts, bySeed } = await scoreResponses(
        {
          ...{ checkpoint, data, column, most, seeds, options },
          ...(memory === undefined ? {} : { memory }),
          ...(threads === undefined ? {} : { threads }),
        },
        {
          signal,
          onEvent: ({ kind }) => {
            if (kind !== "finished") return;
            report?.({ stage: "evaluate", done: ++done, total, unit: "steps", message: `${id}: Scoring responses` });
          },
        },
      );
      const scores: ScoresFile = { key, prompts, bySeed };
      await writeFileAtomically(path.join(runDirectory, fileName), `${JSON.stringify(scores, null, 2)}\n`);
    },
  };
}

/** Null where the cell has none that can be read. */
export async function readScores(runDirectory: string): Promise<ScoresFile | null> {
  try {
    const parsed = scoresFile.safeParse(JSON.parse(await readFile(path.join(runDirectory, fileName), "utf8")));
    return parsed.success ? parsed.data : null;
  } catch {
    return null;
  }
}

async function keyOf(
  directory: string,
  instructions: Instructions,
  asked: object,
  signal: AbortSignal,
): Promise<string> {
  const student = await fingerprintCheckpoint(await openCheckpoint(directory), signal);
  return contentKey({ student, instructions, ...asked });
}
