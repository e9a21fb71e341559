// `npm run nightly`: the long forms: 20,000 hostile files, 100 kills of a whole run, more full disks.
import { spawnSync } from "node:child_process";

const tests = ["test/fuzz", "test/faults", "test/engine/checkpoint/headerFuzz.test.ts"];
const env = { REROUTE_FUZZ_CASES: "20000", REROUTE_NIGHTLY: "1", ...process.env };
const { status } = spawnSync("npx", ["vitest", "run", "--project", "unit", "--testTimeout=3600000", ...tests], {
  stdio: "inherit",
  env,
});
process.exit(status ?? 1);
