import { readFile } from "node:fs/promises";
import { arch, homedir, platform, release } from "node:os";
import path from "node:path";
import * as vscode from "vscode";
import { engineVersion } from "../../protocol/version";
import type { Services } from "../services";
import { workspaceFolder } from "../settings";
import { commandLineOutput } from "../support/commandLineProgram";
import { issueText } from "../support/issueText";

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
