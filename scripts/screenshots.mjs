// `npm run screenshots`: the README's and the walkthrough's pictures, from a real VS Code. Takes some ten minutes.
import { spawnSync } from "node:child_process";

const env = { ...process.env, REROUTE_SCREENSHOTS: "1" };
for (const [command, ...args] of [
  ["bash", "test/e2e/setup.sh"],
  ["npm", "run", "--silent", "package"],
  ["npx", "vitest", "run", "--project", "e2e", "test/e2e/pictures.test.ts", "--testTimeout", "1200000"],
]) {
  const { status } = spawnSync(command, args, { stdio: "inherit", env });
  if (status !== 0) process.exit(status ?? 1);
}
