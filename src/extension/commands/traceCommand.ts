import path from "node:path";
import { existsSync } from "node:fs";
import * as vscode from "vscode";
import { checkpointLabel } from "../checkpoints/checkpointFolder";
import { runId } from "../runs/runName";
import type { Services } from "../services";
import { parseExpertsPerToken } from "../wizard/validation";

/** Makes a run of routing that another program recorded, and shows it in the Routing panel. */
export async function importTraceCommand(argument: unknown, services: Services): Promise<void> {
  const { engine, runList } = services;
  const file = argument instanceof vscode.Uri ? argument.fsPath : await pickTrace();
  if (file === null) return;
  const checkpoint = await pickOrigin(services);
  if (checkpoint === undefined) return;
  const numExpertsPerToken = checkpoint === null ? await askExpertsPerToken() : null;
  if (numExpertsPerToken === undefined) return;

  const folder = runList.folderFor(file);
  const taken = (id: string) => existsSync(path.join(folder, id));
  const runDirectory = path.join(folder, runId(`trace ${path.basename(file)}`, new Date(), taken));
  const { notes } = await vscode.window.withProgress(
    {
      location: vscode.ProgressLocation.Notification,
      title: vscode.l10n.t("Reading the trace {0}...", path.basename(file)),
      cancellable: true,
    },
    (_, token) => {
      const abort = new AbortController();
      token.onCancellationRequested(() => abort.abort());
      const request = {
        path: file,
        format: "auto" as const,
        runDirectory,
        ...(checkpoint === null ? {} : { checkpoint }),
        ...(numExpertsPerToken === null ? {} : { numExpertsPerToken }),
      };
      return engine.request("trace/import", request, abort.signal);
    },
  );
  runList.refresh();
  await vscode.commands.executeCommand("reroute.openRouting", { runDirectory });
  if (notes.length > 0) void vscode.window.showInformationMessage(notes.join(". "));
}

/** Files that look like traces, or one that is browsed for; SGLang writes a folder of them. Null: nothing. */
async function pickTrace(): Promise<string | null> {
  // Globs of VS Code do not nest braces.
  const pattern = "**/{*.npy,*.npz,*imatrix*.gguf,expert_distribution*.csv,expert_distribution*.pt}";
  const found = await vscode.workspace.findFiles(pattern, "**/{node_modules,.git,.reroute}/**", 200);
  const browse = (label: string, detail: string, folder: boolean) => ({
    ...{ label, detail, description: "", iconPath: new vscode.ThemeIcon("folder-opened") },
    pick: async () => {
      const options = { canSelectFiles: !folder, canSelectFolders: folder };
      const [chosen] = (await vscode.window.showOpenDialog(options)) ?? [];
      return chosen?.fsPath ?? null;
    },
  });
  const items = [
    ...found.map(({ fsPath }) => ({
      ...{ label: path.basename(fsPath), description: path.dirname(vscode.workspace.asRelativePath(fsPath)) },
      iconPath: new vscode.ThemeIcon("pulse"),
      pick: async () => fsPath,
    })),
    browse(
      vscode.l10n.t("Browse for a file..."),
      vscode.l10n.t(
        "vLLM: .npy, .npz, .json, .safetensors · SGLang: .pt, .csv, .npy, .json · llama.cpp: importance matrix, .gguf",
      ),
      false,
    ),
    browse(vscode.l10n.t("Browse for a folder..."), vscode.l10n.t("SGLang: one .csv a rank"), true),
  ];
  const placeHolder = vscode.l10n.t("Which routing trace?");
  const picked = await vscode.window.showQuickPick(items, { placeHolder, matchOnDetail: true });
  return picked ? picked.pick() : null;
}

/** The checkpoint that the trace was recorded with; null: none at hand; undefined: the user gave up. */
async function pickOrigin({ checkpoints }: Services): Promise<string | null | undefined> {
  const folders = await checkpoints.list();
  const items: (vscode.QuickPickItem & { pick: () => Promise<string | null | undefined> })[] = [
    ...folders.map((folder) => ({
      label: checkpointLabel(folder),
      description: path.dirname(vscode.workspace.asRelativePath(folder)),
      iconPath: new vscode.ThemeIcon("package"),
      pick: async () => folder,
    })),
    {
      label: vscode.l10n.t("Browse..."),
      iconPath: new vscode.ThemeIcon("folder-opened"),
      pick: async () => {
        const [folder] = (await vscode.window.showOpenDialog({ canSelectFiles: false, canSelectFolders: true })) ?? [];
        return folder?.fsPath;
      },
    },
    {
      label: vscode.l10n.t("Without a checkpoint"),
      description: vscode.l10n.t("layers and experts are counted as the trace has them"),
      iconPath: new vscode.ThemeIcon("circle-slash"),
      pick: async () => null,
    },
  ];
  const placeHolder = vscode.l10n.t("Which checkpoint was it recorded with?");
  const picked = await vscode.window.showQuickPick(items, { placeHolder });
  return picked?.pick();
}

/** Null: the trace says it itself; undefined: the user gave up. */
async function askExpertsPerToken(): Promise<number | null | undefined> {
  const text = await vscode.window.showInputBox({
    prompt: vscode.l10n.t("Experts that a token selects, if the trace holds sums only; empty where it says so itself"),
    validateInput: (entered) => {
      const checked = parseExpertsPerToken(entered, vscode.l10n.t);
      return checked.ok ? null : checked.problem;
    },
  });
  if (text === undefined) return undefined;
  const checked = parseExpertsPerToken(text, vscode.l10n.t);
  return checked.ok ? checked.value : undefined;
}
