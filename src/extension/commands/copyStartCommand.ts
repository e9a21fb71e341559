import { availableParallelism } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import type { Services } from "../services";
import { readSettings } from "../settings";
import { hasPassword, queueFolder, workerFolders } from "../workers/queueChoice";
import { withPassword } from "../workers/queueUrl";
import { languageOf, startCommand, type Launcher, type StartExtras } from "../workers/startCommands";

/** Copies what starts workers of the queue elsewhere; nothing is started or written. */
export async function copyStartCommand(services: Services): Promise<void> {
  const { context } = services;
  const { queue, allowInsecureQueue } = readSettings(queueFolder());
  if (queue === null) throw new RerouteError("arguments/invalid", "No queue is named: set reroute.queue first");
  withPassword(queue, null);
  const launcher = await pickLauncher();
  if (!launcher) return;
  const workers = await ask(vscode.l10n.t("How many workers?"), launcher === "shell" ? "1" : "8", countOf(1024));
  if (workers === null) return;
  const threads = await ask(
    vscode.l10n.t("Threads of each worker: the physical cores that it gets"),
    launcher === "shell" ? String(availableParallelism()) : "16",
    countOf(1024),
  );
  if (threads === null) return;
  const memory = await ask(
    vscode.l10n.t("Memory of each worker, GiB; nothing: what the machine has"),
    launcher === "shell" || launcher === "ssh" ? "" : "64",
    (text) => (text === "" || isSize(text) ? null : vscode.l10n.t("Enter a number of GiB, such as 64, or nothing")),
  );
  if (memory === null) return;
  const extras = await askExtras(launcher);
  if (extras === null) return;
  const start = {
    // On this machine the extension's own; elsewhere an installed one.
    program: launcher === "shell" ? ["node", context.asAbsolutePath(path.join("dist", "cli.js"))] : ["reroute"],
    queue,
    hasPassword: await hasPassword(context, queue),
    isInsecureAllowed: allowInsecureQueue,
    maps: workerFolders(context),
    workers: Number(workers),
    threads: Number(threads),
    memoryGiB: memory === "" ? null : Number(memory),
  };
  const text = startCommand(launcher, start, extras);
  await vscode.env.clipboard.writeText(text);
  const open = vscode.l10n.t("Show");
  const choice = await vscode.window.showInformationMessage(
    vscode.l10n.t("Copied what starts {0} workers. Read it before you run it.", start.workers),
    open,
  );
  if (choice !== open) return;
  const document = await vscode.workspace.openTextDocument({ content: text, language: languageOf[launcher] });
  await vscode.window.showTextDocument(document);
}

async function pickLauncher(): Promise<Launcher | undefined> {
  const items: (vscode.QuickPickItem & { launcher: Launcher })[] = [
    {
      launcher: "slurm",
      label: "Slurm",
      description: vscode.l10n.t("an array of jobs, for sbatch"),
    },
    { launcher: "kubernetes", label: "Kubernetes", description: vscode.l10n.t("an indexed Job, for kubectl apply") },
    { launcher: "ray", label: "Ray", description: vscode.l10n.t("jobs, for ray job submit") },
    { launcher: "ssh", label: "ssh", description: vscode.l10n.t("a session on each machine") },
    { launcher: "shell", label: vscode.l10n.t("Shell"), description: vscode.l10n.t("on this machine") },
  ];
  const placeHolder = vscode.l10n.t("What starts the workers?");
  return (await vscode.window.showQuickPick(items, { placeHolder }))?.launcher;
}

async function askExtras(launcher: Launcher): Promise<StartExtras | null> {
  const none = { hosts: [], image: "", claim: "" };
  const needed = (text: string) => (text === "" ? vscode.l10n.t("It is needed") : null);
  if (launcher === "ssh") {
    const hosts = await ask(vscode.l10n.t("Machines, as ssh takes them, with spaces between them"), "", needed);
    return hosts === null ? null : { ...none, hosts: hosts.split(/[\s,]+/).filter((host) => host !== "") };
  }
  if (launcher !== "kubernetes") return none;
  const image = await ask(vscode.l10n.t("Image that has the reroute command"), "", needed);
  if (image === null) return null;
  const claim = await ask(
    vscode.l10n.t("Volume claim with checkpoints and runs, which several pods can mount"),
    "",
    needed,
  );
  return claim === null ? null : { ...none, image, claim };
}

/** What was entered, trimmed; null: the question was left. */
async function ask(prompt: string, value: string, problem: (text: string) => string | null): Promise<string | null> {
  const validateInput = (text: string) => problem(text.trim());
  const answer = await vscode.window.showInputBox({ prompt, value, validateInput, ignoreFocusOut: true });
  return answer === undefined ? null : answer.trim();
}

const countOf = (most: number) => (text: string) =>
  /^\d{1,4}$/.test(text) && Number(text) >= 1 && Number(text) <= most
    ? null
    : vscode.l10n.t("Enter a whole number from 1 to {0}", most);

function isSize(text: string): boolean {
  return /^\d+(\.\d+)?$/.test(text) && Number(text) >= 1 / 8 && Number(text) <= 1e5;
}
