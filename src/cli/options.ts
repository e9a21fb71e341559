import { createHash } from "node:crypto";
import path from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import { RerouteError } from "../protocol/errors";
import { packings, providerChoices, recipeSchema, type Packing, type Precision, type Recipe } from "../protocol/recipe";
import type { ActivationType } from "../protocol/calibrateOptions";

/** Options that several commands share. */
export interface SharedOptions {
  column?: string;
  tokenizer?: string;
  sequences?: number;
  sequenceLength?: number;
  packing?: Packing;
  seed?: number;
  memory?: string;
  threads?: number;
  provider?: (typeof providerChoices)[number];
  json?: boolean;
}

export function addMachineOptions(command: Command): Command {
  return addRuntimeOptions(command).option("--json", "print the result as JSON");
}

/** How graphs are run on this machine. */
export function addRuntimeOptions(command: Command): Command {
  return command
    .option("--memory <size>", "memory budget such as 8GiB (default: a share of what is free)")
    .option("--threads <n>", "threads of graph runs (default: all cores)", toInteger(1))
    .addOption(new Option("--provider <name>", "execution provider (default: auto)").choices([...providerChoices]));
}

export function addDataOptions(command: Command, defaultSequences: number): Command {
  return command
    .option(
      "--column <key>",
      "column that holds the text, token ids or messages (default: told from the columns there are)",
    )
    .option(
      "--tokenizer <dir>",
      "folder with tokenizer.json and chat template (default: the checkpoint, or its teacher)",
    )
    .option("--sequences <n>", `sequences used, in file order (default: ${defaultSequences})`, toInteger(1))
    .option("--sequence-length <n>", "tokens a sequence (default: 512)", toInteger(2))
    .addOption(
      new Option(
        "--packing <kind>",
        "packed: documents joined and cut; truncated: one document a sequence; responses: one instruction and its answer, of which the answer counts",
      ).choices([...packings]),
    )
    .option("--seed <n>", "seed of every random choice (default: 42)", toInteger(0));
}

/** Parser of a whole number of at least `least`. */
export function toInteger(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text.trim()) && Number.isSafeInteger(value) && value >= least) return value;
    throw new InvalidArgumentError(`Give a whole number of at least ${least}.`);
  };
}

/** Parser of a finite number. */
export function toNumber(text: string): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isFinite(value)) return value;
  throw new InvalidArgumentError("Give a number.");
}

/** Parser of `name=value`, repeated: numbers and true/false become themselves, everything else is text. */
export function toMethodOption(
  text: string,
  before: Record<string, string | number | boolean> = {},
): Record<string, string | number | boolean> {
  const match = /^([A-Za-z][A-Za-z0-9]*)=(.+)$/.exec(text);
  if (match === null) throw new InvalidArgumentError("Give name=value.");
  const value = match[2]!;
  const number = Number(value);
  const parsed = value === "true" || value === "false" ? value === "true" : Number.isFinite(number) ? number : value;
  return { ...before, [match[1]!]: parsed };
}

/** What --data takes. */
export const dataHelp =
  "a file, folder or pattern: .txt, .jsonl, .json, .csv, .parquet, .arrow, .gz, .zst (docs/data.md)";

/** The recipe that a command's options amount to, run in the folder `cwd`. Options not given take the recipe's defaults. */
export function recipeFrom(
  cwd: string,
  options: SharedOptions,
  parts: {
    teacher: string;
    student?: string | { build: object };
    evaluateOnly?: true;
    calibration: string;
    evaluation?: string;
    task?: string;
    output: string;
    compress?: object;
    calibrate?: object;
    activations?: ActivationType | undefined;
    measureSpeed?: true | undefined;
    precision?: Precision | undefined;
    evaluationSequences?: number;
  },
): Recipe {
  const {
    compress,
    calibrate,
    calibration,
    evaluation,
    task,
    activations,
    measureSpeed,
    precision,
    evaluationSequences,
    ...places
  } = parts;
  const { column, sequences, sequenceLength, packing, seed, memory, threads, provider } = options;
  const tokenizer = options.tokenizer === undefined ? undefined : path.resolve(cwd, options.tokenizer);
  const recipe = withoutUndefined({
    schemaVersion: 1,
    data: withoutUndefined({
      calibration,
      evaluation,
      task,
      column,
      tokenizer,
      sequences,
      evaluationSequences,
      sequenceLength,
      packing,
    }),
    compress: compress && withoutUndefined(compress),
    calibrate: calibrate && withoutUndefined(calibrate),
    seed,
    memory,
    threads,
    provider,
    activations,
    measureSpeed,
    precision,
    ...places,
  });
  const parsed = recipeSchema.safeParse(recipe);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new RerouteError(
    "arguments/invalid",
    `The option for ${issue.path.join(".")} cannot be used: ${issue.message}`,
  );
}

/** `.reroute/runs/<command>-<hash>` below the working folder: the same command finds its run again and continues it. */
export function defaultRunDirectory(cwd: string, command: string, recipe: Recipe): string {
  const hash = createHash("sha256").update(JSON.stringify(recipe)).digest("hex").slice(0, 8);
  return path.join(cwd, ".reroute", "runs", `${command}-${hash}`);
}

function withoutUndefined(object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
