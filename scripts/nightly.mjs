// `npm run nightly`: the long forms: 20,000 hostile files, 100 kills of a whole run, more full disks, every row of a kind.
import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/**
 * Arguments choose test files by parts of their names, and tests by theirs: `npm run nightly -- faults.test -t "file size"`. Without
 * any, every file that has a long form.
 */
const asked = process.argv.slice(2);
const withLongForm = readdirSync("test", { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".test.ts"))
  .map((name) => path.join("test", name))
  .filter((file) => /support\/nightly"|"\.\/cases"/.test(readFileSync(file, "utf8")));
const env = { REROUTE_NIGHTLY: "1", ...process.env };
// They end what hangs.
const limits = ["--testTimeout=5400000", "--hookTimeout=5400000"];
const tests = asked.length === 0 ? withLongForm : asked;
const { status } = spawnSync("npx", ["vitest", "run", "--project", "unit*", ...limits, ...tests], {
  stdio: "inherit",
  env,
});
process.exit(status ?? 1);
