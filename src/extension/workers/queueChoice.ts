import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import type { QueueChoice } from "../../protocol/workers";
import { readSettings, runsFolder, workspaceFolder } from "../settings";
import { withPassword } from "./queueUrl";

type Secrets = Pick<vscode.ExtensionContext, "secrets">;

/**
 * The queue of runs about a file or folder, as the settings name it and with its password; null: no queue is named. The password
 * belongs to one URL: another URL, which a workspace may set, gets none.
 * @throws RerouteError arguments/invalid where the setting is no URL, or holds a password
 */
export async function queueChoice({ secrets }: Secrets, about?: string): Promise<QueueChoice | null> {
  const { queue, allowInsecureQueue, localWorkers, layerParts } = readSettings(about);
  if (queue === null) return null;
  const url = withPassword(queue, (await secrets.get(secretOf(queue))) ?? null);
  return {
    ...{ url, localWorkers },
    ...(layerParts > 1 ? { layerParts } : {}),
    ...(allowInsecureQueue ? { insecure: true } : {}),
  };
}

/** What a request is sent along with: the queue, where there is one. @throws as queueChoice */
export async function queueOf(context: Secrets, about: string): Promise<{ queue?: QueueChoice }> {
  const queue = await queueChoice(context, about);
  return queue === null ? {} : { queue };
}

/** Whether a password is known for the queue that a file's or folder's settings name. */
export async function hasPassword({ secrets }: Secrets, queue: string): Promise<boolean> {
  return (await secrets.get(secretOf(queue))) !== undefined;
}

/** What the view and its commands are about: the first folder of the workspace that names a queue. */
export function queueFolder(): string | undefined {
  const folders = vscode.workspace.workspaceFolders ?? [];
  return folders.map(({ uri }) => uri.fsPath).find((folder) => readSettings(folder).queue !== null);
}

/** Asks for the password of the queue and keeps it in the secret storage; nothing entered takes it away. */
export async function setQueuePassword({ secrets }: Secrets): Promise<void> {
  const { queue } = readSettings(queueFolder());
  if (queue === null) throw new RerouteError("arguments/invalid", "No queue is named: set reroute.queue first");
  withPassword(queue, null);
  const password = await vscode.window.showInputBox({
    prompt: vscode.l10n.t("Password of {0}; it is kept in the secret storage. Nothing: forget it", queue),
    password: true,
    ignoreFocusOut: true,
  });
  if (password === undefined) return;
  if (password === "") await secrets.delete(secretOf(queue));
  else await secrets.store(secretOf(queue), password);
}

/** Folders that workers elsewhere need: those of the setting, or where checkpoints and runs lie. */
export function workerFolders(context: Pick<vscode.ExtensionContext, "globalStorageUri">): string[] {
  const about = queueFolder();
  const { workerFolders: named } = readSettings(about);
  if (named.length > 0) return named;
  const workspace = workspaceFolder(about);
  const runs = runsFolder(context, about);
  if (workspace === null) return [runs];
  const isInside = !path.relative(workspace, runs).startsWith("..");
  return isInside ? [workspace] : [workspace, runs];
}

/** Tells menus and views whether a queue is named. */
export function tellQueue(): void {
  void vscode.commands.executeCommand("setContext", "reroute.hasQueue", readSettings(queueFolder()).queue !== null);
}

function secretOf(queue: string): string {
  return `reroute.queue ${queue}`;
}
