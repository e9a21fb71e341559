import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { nodeBundle } from "../../../scripts/nodeBundle.mjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CalibrateOptions } from "../../../src/protocol/calibrateOptions";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCheckpoint } from "../../support/goldens";
import { spreadSteps, stepKiller } from "../../faults/killAtStep";
import { temporaryFolder } from "../../support/temporaryFolder";
import { writeGoldenStudent } from "../../support/tinyModels";

const isNightly = process.env["REROUTE_NIGHTLY"] !== undefined;
const killer = stepKiller();
const family = "qwen2_moe";
// Inside the project, so that the bundle finds onnxruntime-node.
const bundle = path.resolve(`node_modules/.cache/reroute-test-${process.pid}.cjs`);
let student = "";

beforeAll(async () => {
  await build({
    ...nodeBundle,
    entryPoints: ["test/engine/distillation/child.ts"],
    outfile: bundle,
    define: { ...nodeBundle.define, "import.meta.dirname": JSON.stringify(path.resolve("test/support")) },
  });
  student = (await writeGoldenStudent(family, path.join(temporaryFolder(), "student"))).checkpoint.directory;
});
afterAll(() => rmSync(bundle, { force: true }));

/** Runs the calibration until it ends or is killed before a step at the disk; what it printed tells whether it got to the end. */
function calibrateInChild(options: Partial<CalibrateOptions>, folder: string, output: string, killAt: number | null) {
  return new Promise<{ finished: boolean }>((resolve, reject) => {
    const argv = [bundle, student, goldenCheckpoint(family), folder, output, JSON.stringify(options)];
    const child = spawn(process.execPath, ["--require", killer.preload, ...argv], {
      stdio: ["ignore", "pipe", "inherit"],
      env: { ...process.env, [killer.variable]: killAt === null ? "" : String(killAt) },
    });
    let text = "";
    child.stdout.setEncoding("utf8").on("data", (part: string) => (text += part));
    child.on("error", reject);
    child.on("close", () => resolve({ finished: text.split("\n").includes("done") }));
  });
}

/** Everything of a run but what is measured: seconds, and where folders lie. */
function resultsOf(folder: string, output: string) {
  const metrics = readFileSync(path.join(folder, "metrics.jsonl"), "utf8").trimEnd().split("\n");
  return {
    state: readFileSync(path.join(folder, "train-state.safetensors")).toString("base64"),
    files: Object.fromEntries(
      readdirSync(output).map((name) => [name, readFileSync(path.join(output, name)).toString("base64")]),
    ),
    metrics: metrics.map((line) => ({
      ...(JSON.parse(line) as Record<string, unknown>),
      seconds: 0,
      teacherSeconds: 0,
    })),
    runFiles: readdirSync(folder).sort(),
  };
}

test.each<{ kills: number; options: Partial<CalibrateOptions> }>([
  { kills: isNightly ? 24 : 4, options: {} },
  { kills: isNightly ? 12 : 2, options: { scope: "router+experts", loss: "lm" } },
  { kills: isNightly ? 12 : 2, options: { scope: "router+top-experts", topExperts: 2, initialise: "router-logits" } },
])(
  "killed before $kills of its steps at the disk, a calibration ($options) ends with the bytes of an undisturbed one",
  async ({ kills, options }) => {
    const parent = temporaryFolder();
    const folders = (name: string): [string, string] => {
      const folder = path.join(parent, name);
      mkdirSync(folder, { recursive: true });
      return [folder, path.join(parent, `${name}-output`)];
    };
    const undisturbed = folders("undisturbed");
    expect(await calibrateInChild(options, ...undisturbed, null)).toEqual({ finished: true });
    const expected = resultsOf(...undisturbed);
    // 24 updates, 13 looks at the held-out set, and one after routers were fitted where that made it better.
    expect(expected.metrics.length - 37).toBeOneOf(options.initialise ? [0, 1] : [0]);

    // Spread over teacher, updates and the writing of the checkpoint; every second one meets what the first one left.
    const random = createRandom(20);
    const steps = spreadSteps(kills, killer.steps(), (n) => random.below(n));
    for (let first = 0; first < kills; first += 2) {
      const disturbed = folders(`disturbed-${first}`);
      expect(await calibrateInChild(options, ...disturbed, steps[first]!)).toEqual({ finished: false });
      const { finished } = await calibrateInChild(options, ...disturbed, steps[first + 1]!);
      if (!finished) await calibrateInChild(options, ...disturbed, null);
      expect(resultsOf(...disturbed)).toEqual(expected);
    }
  },
);
