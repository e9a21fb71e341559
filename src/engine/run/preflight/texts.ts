import { countSequences, type TextAmount } from "../../data/countSequences";
import { heldOutCount } from "../../data/heldOutSplit";
import { listTextFiles } from "../../data/textFiles";
import { minUnitsForVerdict } from "../../evaluation/verdict";
import { RerouteError } from "../../../protocol/errors";
import type { Recipe } from "../../../protocol/recipe";
import type { StageId } from "../../../protocol/run";
import { sequencesBeforeSplit } from "../stages/data";
import type { RunPaths } from "../folder/runFolder";
import type { ModelCache } from "../modelCache";
import type { OpenModel } from "../work";

interface TextCheck {
  /** Stages that are still to be worked on. */
  open: ReadonlySet<StageId>;
  models: ModelCache;
  signal: AbortSignal | undefined;
  /** Records what `work` raises as a refusal. */
  attempt: <T>(work: () => Promise<T>) => Promise<T | null>;
}

/** One text that a recipe names, and how many of its sequences stages want and need. */
interface WantedText {
  path: string;
  wanted: number;
  least: number;
  /** A verdict is given on it. */
  judges?: boolean;
}

/**
 * Reads as much of a recipe's texts as its stages will: files, lines, tokenizer and the number of sequences there are.
 * @returns a warning for each text that has fewer sequences than are asked for
 */
export async function checkTexts(
  recipe: Recipe,
  paths: RunPaths,
  teacher: OpenModel | null,
  { open, models, signal, attempt }: TextCheck,
): Promise<string[]> {
  const { sequenceLength, packing, column } = recipe.data;
  const named = [paths.calibrationData, ...(paths.evaluationData === null ? [] : [paths.evaluationData])];
  const exists = new Set<string>();
  for (const path of named) if (await attempt(() => listTextFiles(path))) exists.add(path);
  const read = textsOf(recipe, paths, open).filter(({ path }) => exists.has(path));
  if (!teacher) return [];
  const warnings: string[] = [];
  for (const { path, wanted, least, judges } of read) {
    await attempt(async () => {
      const { vocabSize } = teacher.description;
      const text = {
        path,
        column,
        ...models.textReaders(paths.tokenizer),
        vocabSize,
        sequences: wanted,
        sequenceLength,
        packing,
        signal,
      };
      const amount = await countSequences(text);
      const { sequences, tokens, isExact } = amount;
      if (sequences < least) throw tooLittle(path, { sequences, tokens, least }, recipe.data);
      if (judges) warnings.push(...verdictNote(path, amount));
      if (sequences < wanted)
        warnings.push(
          `${path} has text for ${isExact ? "" : "about "}${sequences} of the ${wanted} sequences of ${sequenceLength} tokens asked for`,
        );
    });
  }
  return warnings;
}

function textsOf(
  { data, calibrate }: Pick<Recipe, "data" | "calibrate">,
  paths: RunPaths,
  open: ReadonlySet<StageId>,
): WantedText[] {
  const isOpen = calibrate !== undefined && open.has("calibrate");
  const heldOut = isOpen ? heldOutCount(data.sequences, calibrate.heldOut, calibrate.maxHeldOut) : 0;
  const calibration = { path: paths.calibrationData, wanted: data.sequences + heldOut, least: heldOut > 0 ? 2 : 1 };
  if (data.splitEvaluation && open.has("evaluate")) {
    const before = sequencesBeforeSplit({ data, calibrate });
    return [{ path: paths.calibrationData, wanted: before + data.evaluationSequences, least: before + 1 }];
  }
  const judges = calibrate !== undefined;
  const evaluation = { path: paths.evaluationData ?? "", wanted: data.evaluationSequences, least: 1, judges };
  return [
    ...((["profile", "compress", "calibrate"] as const).some((id) => open.has(id)) ? [calibration] : []),
    ...(open.has("evaluate") ? [evaluation] : []),
  ];
}

/** Sequences of one document are resampled together, so that both count for a verdict. */
function verdictNote(path: string, { sequences, documents }: TextAmount): string[] {
  if (Math.min(sequences, documents) >= minUnitsForVerdict) return [];
  return [
    `The verdict will be "too little text": ${path} gives ${amountOf(sequences, "sequence")} of ${amountOf(documents, "document")}, and a verdict needs ${minUnitsForVerdict} of both; measure on more (--evaluation-sequences), or on text of more documents`,
  ];
}

function amountOf(count: number, name: string): string {
  return `${count} ${name}${count === 1 ? "" : "s"}`;
}

/** Says how much text there is, and the length of sequences that it is enough for. */
function tooLittle(
  path: string,
  { sequences, tokens, least }: { sequences: number; tokens: number; least: number },
  { sequenceLength, packing }: Recipe["data"],
): RerouteError {
  const needed =
    least === 1
      ? "a sequence is needed"
      : least === 2
        ? "one sequence to train on and one that is held out are needed"
        : `${least} are needed with what is held out and split off`;
  const shorter = Math.floor(tokens / least);
  const way =
    packing === "packed" && shorter >= 2 ? `sequences of up to ${shorter} tokens (--sequence-length), or ` : "";
  return new RerouteError(
    "data/too-few-tokens",
    `${path} gives ${tokens} tokens, which is ${sequences} sequences of ${sequenceLength}, but ${needed}; use ${way}more text`,
  );
}
