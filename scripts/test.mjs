// `npm test`: builds, checks types and style, runs every test, and closes with one line over all of it.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";

const results = "out/test-results";
rmSync(results, { recursive: true, force: true });
mkdirSync(results, { recursive: true });

/** Checks that pass or fail as a whole, side by side, then test suites that count their own tests, one after another. */
const checks = [
  ["build", "node", ["esbuild.mjs"]],
  ["types", "npx", ["tsc", "--noEmit"]],
  ["types of the pages", "npx", ["tsc", "--noEmit", "-p", "webview"]],
  ["lint", "npx", ["eslint", ".", "--max-warnings", "0"]],
  ["imports", "npx", ["depcruise", "--config", ".dependency-cruiser.mjs", "src", "webview"]],
  ["format", "npx", ["prettier", "--check", "--log-level", "warn", "."]],
  // Mostly downloads, on a machine that has neither yet.
  ["browser and editor", "bash", ["-c", "bash test/e2e/setup-browser.sh && bash test/e2e/setup.sh"]],
];
const suites = [
  ["unit", "npx", ["vitest", "run", "--project", "unit*"]],
  ["pages", "bash", ["-c", "bash test/e2e/setup-browser.sh && npx vitest run --project pages $0 $1 $2"]],
  [
    "e2e",
    "bash",
    ["-c", "bash test/e2e/setup.sh && npm run --silent package && npx vitest run --project e2e $0 $1 $2"],
  ],
  // Needs what the two before it set up.
  ["rendering", "npx", ["vitest", "run", "--project", "rendering"]],
];

let passed = 0;
let failed = 0;
/** Named again at the end: who reads the end of a long output is to know what to look for. */
const failures = [];
/** `npm test` has none and runs everything. */
const only = process.argv.slice(2);

const checked = await Promise.all(only.length === 0 ? checks.map((check) => runBeside(...check)) : []);
for (const [i, ok] of checked.entries()) {
  if (ok) passed++;
  else failures.push(checks[i][0]);
}
failed += failures.length;
for (const [name, command, args] of suites.filter(([name]) => only.length === 0 || only.includes(name))) {
  const file = `${results}/${name}.json`;
  const ok = run(name, command, [...args, "--reporter=default", "--reporter=json", `--outputFile.json=${file}`]);
  const counts = countTests(file);
  passed += counts.passed;
  // A suite that could not start, or failed outside a test, is a failure of its own.
  failed += counts.failed + (!ok && counts.failed === 0 ? 1 : 0);
  failures.push(...(ok || counts.failed > 0 ? counts.failures : [`${name}, outside its tests`]));
}
for (const name of failures) console.log(`failed: ${name}`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

function run(name, command, args) {
  const started = Date.now();
  console.log(`\n== ${name}`);
  const { status } = spawnSync(command, args, { stdio: "inherit" });
  console.log(ended(name, status === 0, started));
  return status === 0;
}

/** Its output comes as a whole when it ends, so that checks do not write into each other's lines. */
function runBeside(name, command, args) {
  const started = Date.now();
  const child = spawn(command, args);
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => output.push(chunk));
  return new Promise((resolve) => {
    child.on("close", (status) => {
      console.log(`\n== ${name}`);
      for (const chunk of output) process.stdout.write(chunk);
      console.log(ended(name, status === 0, started));
      resolve(status === 0);
    });
  });
}

function ended(name, ok, started) {
  return `== ${name}: ${ok ? "ok" : "FAILED"} in ${((Date.now() - started) / 1e3).toFixed(0)} s`;
}

function countTests(file) {
  try {
    const { numPassedTests, numFailedTests, testResults } = JSON.parse(readFileSync(file, "utf8"));
    const failures = testResults.flatMap(({ name, assertionResults }) =>
      assertionResults.filter(({ status }) => status === "failed").map(({ fullName }) => `${name}: ${fullName}`),
    );
    return { passed: numPassedTests, failed: numFailedTests, failures };
  } catch {
    return { passed: 0, failed: 0, failures: [] };
  }
}
