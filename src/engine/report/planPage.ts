import { stat } from "node:fs/promises";
import path from "node:path";
import type { PlanModel } from "../../protocol/engine";
import { errorCodeOf, RerouteError } from "../../protocol/errors";
import type { PlanEdit, PlanView } from "../../protocol/panels";
import { planSchema } from "../../protocol/plan";
import { checkUnchanged } from "../checkpoint/shardFile";
import { checkpointSize, plannedSize } from "../compression/plannedSize";
import { validatePlan } from "../compression/plan/validatePlan";
import { editPlan, planOfText } from "../compression/planPage/editPlan";
import { viewOfPlan } from "../compression/planPage/planView";
import { openModel } from "../run/modelCache";
import { readRun, runPaths } from "../run/folder/runFolder";
import type { OpenModel } from "../run/work";

/**
 * A plan as its page shows it: everything from shapes, nothing is computed.
 * @throws RerouteError `plan/invalid` where the text is no plan; those of opening a checkpoint
 */
export async function readPlanPage(text: string, of: PlanModel): Promise<PlanView> {
  const written = planOfText(text);
  const plan = planSchema.parse(written);
  const model = await modelOf(of);
  if (!model) return { ...viewOfPlan(plan, null), checkpoint: null, problem: null, sizes: null };
  const problem = refusalOf(() => validatePlan(plan, model.description, model.fingerprint));
  const whole = checkpointSize(model.checkpoint);
  let planned: typeof whole | null = null;
  const sizeProblem = problem ?? refusalOf(() => (planned = plannedSize(model, plan)));
  return {
    ...viewOfPlan(plan, model.description),
    checkpoint: path.basename(model.checkpoint.directory),
    problem: sizeProblem,
    sizes: { whole, planned },
  };
}

/** One edit, checked against the checkpoint. */
export async function editPlanText(
  text: string,
  edit: PlanEdit,
  of: PlanModel,
): Promise<{ text: string; said: string }> {
  const model = await modelOf(of);
  if (!model) throw new RerouteError("plan/invalid", "No checkpoint is known for this plan; choose one to edit it");
  const edited = editPlan(text, edit, model);
  plannedSize(model, planSchema.parse(JSON.parse(edited.text)));
  return edited;
}

/** What is wrong with a plan, as a sentence; anything but a refusal is thrown on. */
function refusalOf(check: () => unknown): string | null {
  try {
    check();
    return null;
  } catch (error) {
    if (/^(plan|model|arguments)\//.test(errorCodeOf(error))) return (error as Error).message;
    throw error;
  }
}

/** The checkpoint that was asked for last: every edit asks for the same one. */
let last: { directory: string; model: Promise<OpenModel> } | null = null;

async function modelOf(of: PlanModel): Promise<OpenModel | null> {
  const directory = of.checkpoint ?? (of.runDirectory === undefined ? null : await teacherOf(of.runDirectory));
  if (directory === null) return null;
  if (last?.directory !== directory || !(await isUnchanged(await last.model.catch(() => null)))) {
    last = { directory, model: openModel(directory) };
  }
  return last.model;
}

async function teacherOf(runDirectory: string): Promise<string> {
  const run = await readRun(runDirectory);
  return (await runPaths(runDirectory, run.recipe, run.baseFolder)).teacher;
}

async function isUnchanged(model: OpenModel | null): Promise<boolean> {
  if (!model) return false;
  try {
    for (const shard of model.checkpoint.shards) checkUnchanged(shard, await stat(shard.realPath));
    return true;
  } catch {
    return false;
  }
}
