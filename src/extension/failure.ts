import * as vscode from "vscode";
import { errorCodeOf, isCancelled } from "../protocol/errors";

/**
 * Tells the user about a failure: nothing for a cancellation, the message and its code, which docs/errors.md
 * explains, for their input, and a way to the log for a defect or a crash.
 */
export function showFailure(error: unknown, log: vscode.LogOutputChannel): void {
  if (isCancelled(error)) return;
  const code = errorCodeOf(error);
  const message = error instanceof Error ? error.message : String(error);
  log.error(error instanceof Error ? (error.stack ?? message) : message);
  const deep = code === "internal" || code === "engine/closed" || code.startsWith("runtime/");
  const openLog = vscode.l10n.t("Show Engine Log");
  // The last output of a crashed engine has many lines; the log has them all.
  const firstLine = message.split("\n")[0]!;
  const shown = code === "internal" ? firstLine : `${firstLine} (${code})`;
  void vscode.window.showErrorMessage(shown, ...(deep ? [openLog] : [])).then((choice) => {
    if (choice === openLog) log.show();
  });
}
