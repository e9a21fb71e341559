import path from "node:path";
import * as vscode from "vscode";
import type { PlaygroundSource } from "../../protocol/playground";
import { checkpointLabel } from "../checkpoints/checkpointFolder";
import { pickCheckpoint } from "../commands/pickCheckpoint";
import { directoryOf } from "../commands/pickRun";
import type { PanelHost } from "../panels/panelHost";
import type { Services } from "../services";

/** Opens the Playground: of a run with its teacher and student, of a checkpoint with the teacher that it names. */
export async function openPlayground(argument: unknown, services: Services, panels: PanelHost): Promise<void> {
  const runDirectory = directoryOf(argument);
  const checkpoints =
    runDirectory === null ? await ofCheckpoint(argument, services) : await ofRun(runDirectory, services);
  if (checkpoints !== null) panels.show("playground", { kind: "checkpoints", checkpoints });
}

/** A checkpoint, and before it the teacher in its reroute.json, where that is still there. */
async function ofCheckpoint(argument: unknown, services: Services): Promise<PlaygroundSource[] | null> {
  const folder = await pickCheckpoint(argument, services);
  if (folder === null) return null;
  const summary = await services.checkpoints.inspect(folder).catch(() => null);
  const named = summary?.provenance?.teacherPath;
  const teacher = named === undefined ? null : path.resolve(folder, named);
  const isThere = teacher !== null && (await exists(teacher));
  if (!isThere) return [{ folder, name: checkpointLabel(folder), role: "teacher" }];
  return [
    { folder: teacher, name: checkpointLabel(teacher), role: "teacher" },
    { folder, name: checkpointLabel(folder), role: "student" },
  ];
}

/** The checkpoints that a run has measured: teacher, student before and after; else those that its recipe names. */
async function ofRun(runDirectory: string, { engine }: Services): Promise<PlaygroundSource[] | null> {
  const { run, evaluation } = await engine.request("run/read", { runDirectory });
  const { recipe, baseFolder } = run;
  const teacher = path.resolve(baseFolder, recipe.teacher);
  const found: (PlaygroundSource | null)[] = [
    { folder: teacher, name: checkpointLabel(teacher), role: "teacher" },
    student(evaluation?.before?.checkpoint, vscode.l10n.t("before")),
    student(evaluation?.after?.checkpoint ?? path.resolve(baseFolder, recipe.output), vscode.l10n.t("after")),
  ];
  const there = await Promise.all(found.map(async (one) => (one && (await exists(one.folder)) ? one : null)));
  const seen = new Set<string>();
  const checkpoints = there.flatMap((one) => {
    if (one === null || seen.has(one.folder)) return [];
    seen.add(one.folder);
    return [one];
  });
  if (checkpoints.length > 0) return checkpoints;
  void vscode.window.showErrorMessage(vscode.l10n.t("The checkpoints of this run are no longer there"));
  return null;
}

function student(folder: string | undefined, which: string): PlaygroundSource | null {
  return folder === undefined ? null : { folder, name: `${checkpointLabel(folder)} (${which})`, role: "student" };
}

async function exists(folder: string): Promise<boolean> {
  return vscode.workspace.fs.stat(vscode.Uri.file(path.join(folder, "config.json"))).then(
    () => true,
    () => false,
  );
}
