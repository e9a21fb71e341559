import { readFile } from "node:fs/promises";
import { arch, homedir, platform, release } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { engineVersion } from "../../protocol/version";
import { showDocumentation } from "../failure";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { commandLineOutput } from "../support/commandLineProgram";
import { issueText } from "../support/issueText";

/** Shows one of the documents that the package holds. */
export async function pickDocumentation({ context }: Services): Promise<void> {
  const folder = vscode.Uri.joinPath(context.extensionUri, "docs");
  const files = (await vscode.workspace.fs.readDirectory(folder)).map(([name]) => name);
  const documents = files.filter((name) => name.endsWith(".md")).sort();
  const titles = await Promise.all(
    documents.map(async (name) => {
      const text = Buffer.from(await vscode.workspace.fs.readFile(vscode.Uri.joinPath(folder, name))).toString("utf8");
      return /^# (.+)$/m.exec(text)?.[1] ?? name;
    }),
  );
  const items = documents.map((name, i) => ({ label: titles[i]!, description: name, name }));
  const picked = await vscode.window.showQuickPick(items, { placeHolder: vscode.l10n.t("Which document?") });
  if (picked) await showDocumentation(picked.name);
}

/** Longest that the doctor may take before a report goes without the rest of it. */
const doctorMs = 60_000;

/** Opens a new issue as text: versions, what the doctor says, the log. It is read, and sent, by the person who reports. */
export async function reportIssue({ context, log }: Services): Promise<void> {
  const title = vscode.l10n.t("Collecting what an issue report needs...");
  const content = await vscode.window.withProgress(
    { location: vscode.ProgressLocation.Notification, title },
    async () => {
      const cwd = workspaceFolder() ?? homedir();
      const [doctor, text] = await Promise.all([
        vscode.workspace.isTrusted ? commandLineOutput(context.extensionPath, ["doctor"], cwd, doctorMs) : "",
        readFile(path.join(context.logUri.fsPath, `${log.name}.log`), "utf8").catch(() => ""),
      ]);
      return issueText({
        version: engineVersion,
        vscode: vscode.version,
        platform: `${platform()} ${release()} ${arch()}`,
        doctor: doctor || "not run",
        log: text || "empty",
        home: homedir(),
      });
    },
  );
  const document = await vscode.workspace.openTextDocument({ language: "markdown", content });
  await vscode.window.showTextDocument(document);
}
