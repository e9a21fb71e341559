/** A small extension beside Reroute's that calls its language model tools, as a chat would. */
import { mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createVSIX } from "@vscode/vsce";

/** Command of the probe: asks what call.json of the workspace names, and writes answer.json. */
export const probeCommand = "Probe: Call Tool";

const program = `
const vscode = require("vscode");
const { readFileSync, renameSync, writeFileSync } = require("fs");
exports.activate = (context) => {
  context.subscriptions.push(vscode.commands.registerCommand("probe.call", async () => {
    const folder = vscode.workspace.workspaceFolders[0].uri.fsPath;
    const { name, input } = JSON.parse(readFileSync(folder + "/call.json", "utf8"));
    const answer = await vscode.lm.invokeTool(name, { input, toolInvocationToken: undefined }).then(
      (result) => ({ text: result.content.map((part) => part.value).join("") }),
      (error) => ({ error: String(error && error.message) }),
    );
    const tools = vscode.lm.tools.map((tool) => tool.name);
    writeFileSync(folder + "/answer.part", JSON.stringify({ name, tools, ...answer }));
    renameSync(folder + "/answer.part", folder + "/answer.json");
  }));
};
`;

/** Its package, made anew. */
export async function probePackage(): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), "reroute-probe-"));
  mkdirSync(folder, { recursive: true });
  const [category, title] = probeCommand.split(": ");
  const manifest = {
    ...{ name: "probe", publisher: "test", version: "1.0.0", engines: { vscode: "^1.100.0" }, main: "./main.js" },
    ...{ activationEvents: [], license: "MIT", repository: "https://example.org" },
    contributes: { commands: [{ command: "probe.call", title, category }] },
  };
  writeFileSync(path.join(folder, "package.json"), JSON.stringify(manifest));
  writeFileSync(path.join(folder, "main.js"), program);
  const packagePath = path.join(folder, "probe.vsix");
  await createVSIX({ cwd: folder, packagePath, dependencies: false, skipLicense: true });
  return packagePath;
}
