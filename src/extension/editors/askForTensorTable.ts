import * as vscode from "vscode";
import { SafetensorsEditor } from "./safetensorsEditor";

const pattern = /\.(safetensors|gguf)$/;

/** Where the answer of one who wants to be asked no more is kept. */
const declined = "reroute.tensorTable.declined";

/**
 * A weight file that opened as text shows nothing but that it is binary: whether such files shall open in the tensor table is asked
 * once. The answer is VS Code's own setting, where it can be changed.
 */
export function askForTensorTable({ globalState }: vscode.ExtensionContext): vscode.Disposable {
  let asking = false;
  return vscode.window.tabGroups.onDidChangeTabs(({ opened }) => {
    const uri = opened.map(({ input }) => textUri(input)).find((one) => one !== null);
    if (!uri || asking || globalState.get(declined) === true) return;
    asking = true;
    void ask(uri, globalState).finally(() => (asking = false));
  });
}

/** Of a tab that shows a weight file in an editor that has no name for it. */
function textUri(input: unknown): vscode.Uri | null {
  if (input instanceof vscode.TabInputText) return pattern.test(input.uri.path) ? input.uri : null;
  // A binary file's tab has an input that the API does not describe.
  const editor = vscode.window.activeTextEditor;
  return input === undefined && editor && pattern.test(editor.document.uri.path) ? editor.document.uri : null;
}

async function ask(uri: vscode.Uri, memory: vscode.Memento): Promise<void> {
  const always = vscode.l10n.t("Always");
  const once = vscode.l10n.t("This Time");
  const never = vscode.l10n.t("Never");
  const choice = await vscode.window.showInformationMessage(
    vscode.l10n.t("Open weight files (.safetensors, .gguf) in Reroute's table of tensors?"),
    always,
    once,
    never,
  );
  if (choice === never) await memory.update(declined, true);
  if (choice === always) {
    const settings = vscode.workspace.getConfiguration("workbench");
    const before = settings.get<Record<string, string>>("editorAssociations", {});
    const { viewType } = SafetensorsEditor;
    const added = { "*.safetensors": viewType, "*.gguf": viewType };
    await settings.update("editorAssociations", { ...before, ...added }, vscode.ConfigurationTarget.Global);
  }
  if (choice === always || choice === once)
    await vscode.commands.executeCommand("vscode.openWith", uri, SafetensorsEditor.viewType);
}
