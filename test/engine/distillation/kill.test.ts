import { spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { nodeBundle } from "../../../scripts/nodeBundle.mjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CalibrateOptions } from "../../../src/protocol/recipe";
import { createRandom } from "../../../src/engine/tensor/random";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { writeGoldenStudent } from "../../support/tinyModels";

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

/**
 * Runs the calibration until it ends or, with `killAt`, is killed a few milliseconds after its killAt-th line; what it
 * printed tells whether it got to the end.
 */
function calibrateInChild(
  options: Partial<CalibrateOptions>,
  folder: string,
  output: string,
  kill: { line: number; afterMs: number } | null,
) {
  return new Promise<{ finished: boolean; lines: string[] }>((resolve, reject) => {
    const argv = [bundle, student, goldenCheckpoint(family), folder, output, JSON.stringify(options)];
    const child = spawn(process.execPath, argv, {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let text = "";
    let isDying = false;
    child.stdout.setEncoding("utf8").on("data", (part: string) => {
      text += part;
      if (kill === null || isDying || text.split("\n").length <= kill.line) return;
      isDying = true;
      setTimeout(() => child.kill("SIGKILL"), kill.afterMs);
    });
    child.on("error", reject);
    child.on("close", () => {
      const lines = text.split("\n").filter((line) => line !== "");
      resolve({ finished: lines.includes("done"), lines });
    });
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
    metrics: metrics.map((line) => ({ ...(JSON.parse(line) as Record<string, unknown>), seconds: 0 })),
    runFiles: readdirSync(folder).sort(),
  };
}

test.each<{ kills: number; options: Partial<CalibrateOptions> }>([
  { kills: 12, options: {} },
  { kills: 6, options: { scope: "router+experts", loss: "lm" } },
  { kills: 6, options: { scope: "router+top-experts", topExperts: 2, initialise: "router-logits" } },
])(
  "killed $kills times at random, a calibration ($options) ends with the bytes of an undisturbed one",
  async ({ kills, options }) => {
    const parent = temporaryFolder();
    const folders = (name: string): [string, string] => {
      const folder = path.join(parent, name);
      mkdirSync(folder, { recursive: true });
      return [folder, path.join(parent, `${name}-output`)];
    };
    const undisturbed = folders("undisturbed");
    const whole = await calibrateInChild(options, ...undisturbed, null);
    expect(whole.finished).toBe(true);
    const expected = resultsOf(...undisturbed);
    // 24 updates, 13 looks at the held-out set, and one after routers were fitted where that made it better.
    expect(expected.metrics.length - 37).toBeOneOf(options.initialise ? [0, 1] : [0]);

    const random = createRandom(20);
    let killed = 0;
    for (let run = 0; killed < kills; run++) {
      const disturbed = folders(`disturbed-${run}`);
      let finished = false;
      while (!finished) {
        // A few lines into its work, so that the kills spread over teacher, updates and the writing of the checkpoint.
        const kill = killed < kills ? { line: 1 + random.below(7), afterMs: random.below(15) } : null;
        ({ finished } = await calibrateInChild(options, ...disturbed, kill));
        if (!finished) killed++;
      }
      expect(resultsOf(...disturbed)).toEqual(expected);
    }
  },
  120_000,
);
