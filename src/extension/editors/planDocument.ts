import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import type { PlanModel } from "../../protocol/engine";
import { RerouteError } from "../../protocol/errors";
import type { PlanAction } from "../../protocol/pageMessages";
import type { PlanData } from "../../protocol/pageData";
import type { PlanEdit } from "../../protocol/panels";
import { runFiles } from "../../protocol/run";
import { pickCheckpoint } from "../commands/pickCheckpoint";
import { safeName } from "../runs/runName";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { refusedInRestrictedMode } from "../trust";

/** What a plan's page shows, made from the open document as it is now, saved or not. */
export async function loadPlan(uri: vscode.Uri, services: Services): Promise<PlanData> {
  const document = await vscode.workspace.openTextDocument(uri);
  const model = planModel(uri, services);
  const view = await services.engine.request("plan/read", { text: document.getText(), ...model });
  const other = compared.get(uri.toString());
  return {
    file: path.basename(uri.fsPath),
    view,
    readOnly: readOnlyReason(uri, view.checkpoint !== null),
    other: other ? await otherPlan(other, model, services) : null,
  };
}

/** Plans that are compared with a plan that is shown, by the latter. */
const compared = new Map<string, vscode.Uri>();

async function otherPlan(uri: vscode.Uri, model: PlanModel, { engine }: Services): Promise<PlanData["other"]> {
  const view = await engine.request("plan/read", { text: await readFile(uri.fsPath, "utf8"), ...model });
  return { name: planName(uri), view };
}

/** The run that made a plan, whose teacher it is shown against, or what was chosen for it. */
export function planModel(uri: vscode.Uri, { context }: Services): PlanModel {
  const folder = path.dirname(uri.fsPath);
  if (existsSync(path.join(folder, runFiles.run))) return { runDirectory: folder };
  return context.workspaceState.get<Record<string, PlanModel>>(modelsKey, {})[uri.toString()] ?? {};
}

const modelsKey = "reroute.planModels";

async function remember(uri: vscode.Uri, model: PlanModel, { context }: Services): Promise<void> {
  const known = context.workspaceState.get<Record<string, PlanModel>>(modelsKey, {});
  const kept = Object.entries(known).filter(([one]) => existsSync(vscode.Uri.parse(one).fsPath));
  await context.workspaceState.update(modelsKey, { ...Object.fromEntries(kept), [uri.toString()]: model });
}

/** A run's own plan says what that run did, so it is copied to be changed. */
function readOnlyReason(uri: vscode.Uri, hasModel: boolean): string | null {
  if (existsSync(path.join(path.dirname(uri.fsPath), runFiles.run)))
    return vscode.l10n.t("This is what the run {0} did, so it stays as it is; edit a copy", planName(uri));
  if (!vscode.workspace.isTrusted) return vscode.l10n.t("Restricted Mode: trust this workspace to edit its plans");
  return hasModel ? null : vscode.l10n.t("No checkpoint is known for this plan; choose one to edit it");
}

/** The plan's file, or the run that it lies in. */
function planName(uri: vscode.Uri): string {
  const folder = path.dirname(uri.fsPath);
  return existsSync(path.join(folder, runFiles.run)) ? path.basename(folder) : path.basename(uri.fsPath);
}

/** Edits follow each other: each is made to the text that the one before has left. */
let lastEdit: Promise<unknown> = Promise.resolve();

/** One edit of the document, a step that Undo takes back. */
export function editPlanDocument(uri: vscode.Uri, edit: PlanEdit, services: Services): Promise<{ said: string }> {
  const next = lastEdit.then(async () => {
    const document = await vscode.workspace.openTextDocument(uri);
    const before = document.getText();
    const reason = readOnlyReason(uri, true);
    if (reason !== null) throw new RerouteError("plan/invalid", reason);
    const { text, said } = await services.engine.request("plan/edit", {
      text: before,
      edit,
      ...planModel(uri, services),
    });
    if (document.getText() !== before)
      throw new RerouteError("plan/invalid", vscode.l10n.t("The plan changed meanwhile; try again"));
    await vscode.workspace.applyEdit(replacing(document, before, text));
    return { said };
  });
  lastEdit = next.catch(() => undefined);
  return next;
}

/** The smallest replacement that makes one text of the other, so that an editor beside keeps its place. */
function replacing(document: vscode.TextDocument, before: string, after: string): vscode.WorkspaceEdit {
  let start = 0;
  while (start < before.length && before[start] === after[start]) start++;
  let end = 0;
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end)) end++;
  const range = new vscode.Range(document.positionAt(start), document.positionAt(before.length - end));
  const change = new vscode.WorkspaceEdit();
  change.replace(document.uri, range, after.slice(start, after.length - end));
  return change;
}

/** What the page's buttons do; resolves to whether the page must be read again. */
export async function planAction(uri: vscode.Uri, action: PlanAction, services: Services): Promise<boolean> {
  switch (action) {
    case "apply":
      await vscode.commands.executeCommand("reroute.compressWithPlan", uri);
      return false;
    case "openText":
      await vscode.commands.executeCommand("vscode.openWith", uri, "default");
      return false;
    case "editCopy":
      await editCopy(uri, services);
      return false;
    case "chooseCheckpoint": {
      const checkpoint = await pickCheckpoint(undefined, services);
      if (checkpoint === null) return false;
      await remember(uri, { checkpoint }, services);
      return true;
    }
    case "stopComparing":
      return compared.delete(uri.toString());
    case "compare": {
      const other = await pickPlan(uri, services);
      if (!other) return false;
      compared.set(uri.toString(), other);
      return true;
    }
  }
}

/** A copy in the workspace, that remembers the run it comes from. */
async function editCopy(uri: vscode.Uri, services: Services): Promise<void> {
  if (await refusedInRestrictedMode("compressWithPlan")) return;
  const folder = workspaceFolder(uri.fsPath) ?? path.dirname(path.dirname(uri.fsPath));
  const name = safeName(planName(uri));
  let file = path.join(folder, `${name}.compression-plan.json`);
  for (let n = 2; existsSync(file); n++) file = path.join(folder, `${name}-${n}.compression-plan.json`);
  const copy = vscode.Uri.file(file);
  await vscode.workspace.fs.copy(uri, copy, { overwrite: false });
  await remember(copy, planModel(uri, services), services);
  await vscode.commands.executeCommand("vscode.openWith", copy, planViewType);
}

export const planViewType = "reroute.plan";

/** Another plan to compare with: that of a run, or a file. */
async function pickPlan(uri: vscode.Uri, { runList }: Services): Promise<vscode.Uri | null> {
  const runs = (await runList.get()).flatMap(({ directory, name }) => {
    const file = path.join(directory, runFiles.plan);
    return existsSync(file) && file !== uri.fsPath
      ? [{ label: name, description: path.basename(directory), file }]
      : [];
  });
  const browse = { label: vscode.l10n.t("Browse..."), description: "", file: null };
  const picked = await vscode.window.showQuickPick([...runs, browse], {
    placeHolder: vscode.l10n.t("Compare with which plan?"),
  });
  if (!picked) return null;
  if (picked.file !== null) return vscode.Uri.file(picked.file);
  const [file] = (await vscode.window.showOpenDialog({ filters: { JSON: ["json"] } })) ?? [];
  return file ?? null;
}
