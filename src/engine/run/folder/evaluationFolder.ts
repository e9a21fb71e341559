import { readdir, rm } from "node:fs/promises";
import path from "node:path";
import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import { executionProviders, type Recipe } from "../../../protocol/recipe";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { quote } from "../../checkpoint/quote";
import { readSmallFile } from "../../checkpoint/smallFile";
import type { RuntimeOptions } from "../../runtime/session";
import { removeEvaluationState, removeLeftovers } from "./leftovers";
import { lockRunFolder } from "./lock";
import { runtimeOptions } from "../machine/machine";
import { prepareProvider } from "../machine/providerChoice";
import { createRunFolder, isRunFolder, removeEmptyFolders } from "./runFolder";

/** Everything that decides an evaluation's result, by what the user knows it as. */
export type EvaluationInputs = Record<string, unknown>;

export interface EvaluationFolderOptions {
  directory: string;
  inputs: EvaluationInputs;
  /** Machine options as the user gave them; what they amount to is kept for later attempts. */
  machine: Pick<Recipe, "memory" | "threads" | "provider">;
  /** Told of what makes an evaluation begin anew. */
  onWarning: (message: string) => void;
}

const stateFile = "evaluation-inputs.json";
const maxStateBytes = 2 ** 20;

const folderState = z.object({
  version: z.literal(1),
  /** A hash of each input. */
  inputs: z.record(z.string(), z.string()),
  /** Threads, provider and budget decide how work is cut into pieces, and with it the last bits of sums. */
  runtime: z.object({ threads: z.int().min(1), provider: z.enum(executionProviders), memoryBudgetBytes: z.number() }),
  /** The outermost folder that was made for this; null where all were there. */
  made: z.string().nullable(),
});
type FolderState = z.infer<typeof folderState>;

/**
 * A folder for one evaluation that belongs to no run: what an interrupted one goes on with lies there while it lasts, and
 * goes with it when it is done. State of other inputs is taken away, and the reason told.
 *
 * @param evaluate works with its state in the folder (HeavyWork.evaluate with keepsState)
 * @throws RerouteError `run/locked`; `arguments/invalid` for a run's folder; what the evaluation throws
 */
export async function inEvaluationFolder<T>(
  { directory, inputs, machine, onWarning }: EvaluationFolderOptions,
  evaluate: (runtime: RuntimeOptions) => Promise<T>,
): Promise<T> {
  if (await isRunFolder(directory)) {
    throw new RerouteError(
      "arguments/invalid",
      `The folder ${quote(directory)} holds a run, whose state this evaluation would mix with; choose another folder`,
    );
  }
  const made = await createRunFolder(directory);
  const release = await lockRunFolder(directory);
  let state: FolderState | null = null;
  let isDone = false;
  try {
    await removeLeftovers(directory);
    state = await stateFor(directory, { inputs: { ...inputs, [machineInput]: machine }, machine, made, onWarning });
    const result = await evaluate(state.runtime);
    isDone = true;
    return result;
  } finally {
    if (isDone || !(await hasProgress(directory))) await removeState(directory);
    await release();
    await removeEmptyFolders(directory, state?.made ?? made);
  }
}

const machineInput = "memory, threads or provider";

/** The state of an earlier attempt with the same inputs, or a new one. */
async function stateFor(
  directory: string,
  {
    inputs,
    machine,
    made,
    onWarning,
  }: Pick<EvaluationFolderOptions, "inputs" | "machine" | "onWarning"> & { made: string | null },
): Promise<FolderState> {
  const hashes = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, contentKey(value ?? null)]));
  const known = await readState(directory);
  const changed = changedInputs(known?.inputs ?? {}, hashes);
  if (known && changed.length === 0) return known;
  if (await hasProgress(directory)) {
    const reason = known ? `changed since it was interrupted: ${changed.join("; ")}` : `${stateFile} cannot be read`;
    onWarning(`The evaluation begins anew: ${reason}`);
  }
  await removeState(directory);
  await prepareProvider(machine.provider);
  const state: FolderState = {
    version: 1,
    inputs: hashes,
    runtime: runtimeOptions(machine),
    made: known?.made ?? made,
  };
  await writeFileAtomically(path.join(directory, stateFile), `${JSON.stringify(state)}\n`);
  return state;
}

function changedInputs(before: Record<string, string>, now: Record<string, string>): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(now)]);
  return [...names].filter((name) => before[name] !== now[name]);
}

/** Null where there is none that can be read: the evaluation then begins anew. */
async function readState(directory: string): Promise<FolderState | null> {
  try {
    const text = Buffer.from(await readSmallFile(path.join(directory, stateFile), maxStateBytes)).toString("utf8");
    return folderState.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Whether there is anything to go on with. */
async function hasProgress(directory: string): Promise<boolean> {
  const names = await readdir(directory).catch(() => []);
  return names.some((name) => /^evaluation-(teacher|student)-state\.json$/.test(name));
}

async function removeState(directory: string): Promise<void> {
  await removeEvaluationState(directory, "all");
  await rm(path.join(directory, stateFile), { force: true });
}
