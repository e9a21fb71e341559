// `npm test`: builds, checks types and style, runs every test, and closes with one line over all of it.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";

const results = "out/test-results";
rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });

/** Checks that pass or fail as a whole, then test suites that count their own tests. */
const checks = [
  ["build", "node", ["esbuild.mjs"]],
  ["types", "npx", ["tsc", "--noEmit"]],
  ["types of the pages", "npx", ["tsc", "--noEmit", "-p", "webview"]],
  ["lint", "npx", ["eslint", ".", "--max-warnings", "0"]],
  ["format", "npx", ["prettier", "--check", "--log-level", "warn", "."]],
];
const suites = [
  ["unit", "npx", ["vitest", "run", "--project", "unit"]],
  ["pages", "bash", ["-c", "bash test/e2e/setup-browser.sh && npx vitest run --project pages $0 $1 $2"]],
  [
    "e2e",
    "bash",
    ["-c", "bash test/e2e/setup.sh && npm run --silent package && npx vitest run --project e2e $0 $1 $2"],
  ],
];

let passed = 0;
let failed = 0;
const only = process.argv[2];

for (const [name, command, args] of only === undefined ? checks : []) {
  const ok = run(name, command, args);
  if (ok) passed++;
  else failed++;
}
for (const [name, command, args] of suites.filter(([name]) => only === undefined || name === only)) {
  const file = `${results}/${name}.json`;
  const ok = run(name, command, [...args, "--reporter=default", "--reporter=json", `--outputFile.json=${file}`]);
  const counts = countTests(file);
  passed += counts.passed;
  // A suite that could not start, or failed outside a test, is a failure of its own.
  failed += counts.failed + (!ok && counts.failed === 0 ? 1 : 0);
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

function run(name, command, args) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { stdio: "inherit" });
  console.log(`== ${name}: ${status === 0 ? "ok" : "FAILED"} in ${((Date.now() - started) / 1e3).toFixed(0)} s`);
  return status === 0;
}

function countTests(file) {
  try {
    const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(file, "utf8"));
    return { passed: numPassedTests, failed: numFailedTests };
  } catch {
    return { passed: 0, failed: 0 };
  }
}
