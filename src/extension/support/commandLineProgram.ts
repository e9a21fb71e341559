import { execFile } from "node:child_process";
import path from "node:path";

/** Runs our scripts in the program that this process is: in a desktop VS Code that is Electron, which must be told to be Node. */
export const commandLineEnvironment = { ELECTRON_RUN_AS_NODE: "1" };

/** What the shipped command line prints; what it printed until then where it ends badly. Milliseconds at most: `timeoutMs`. */
export function commandLineOutput(
  extensionPath: string,
  args: string[],
  cwd: string,
  timeoutMs: number,
): Promise<string> {
  const program = path.join(extensionPath, "dist", "cli.js");
  const options = { cwd, timeout: timeoutMs, env: { ...process.env, ...commandLineEnvironment }, maxBuffer: 2 ** 24 };
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], options, (_error, stdout, stderr) => resolve(stdout + stderr));
  });
}
