import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { DenseLayerPlan, DenseStudentFile } from "../../src/protocol/denseStudent";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import { createRandom } from "../../src/engine/tensor/random";
import { isNightly } from "../support/nightly";
import { temporaryFolder } from "../support/temporaryFolder";
import { spreadSteps, stepKiller } from "./killAtStep";
import { bundleCli, killAtSteps, TinyRun } from "./tinyRun";

/** A dense student that was built from its teacher, through every stage of a run, learning from what it writes. */
const killer = stepKiller();
let run: TinyRun;
let expected: Record<string, string>;
let built: { layers: (DenseLayerPlan & { layer: number })[]; heldOut: { klToTeacher: { mean: number } } };

beforeAll(async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  const cli = await bundleCli();
  const data = ["--data", path.join(parent, "calibration.jsonl"), "--sequences", "4", "--sequence-length", "24"];
  const student = ["--out", path.join(parent, "student"), "--held-out", "2", "--threads", "1", "--memory", "1GiB"];
  const argv = [cli, "build-student", path.join(parent, "teacher"), ...data, ...student, "--json"];
  const { stdout, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
  expect(stderr).not.toMatch(/error/);
  built = JSON.parse(stdout) as typeof built;
  const texts = { calibration: "../calibration.jsonl", evaluation: "../evaluation.jsonl", activeExperts: [1, 8] };
  run = new TinyRun(cli, parent, {
    // The command above measures the same tokens.
    ...{ student: { build: { maxTokens: 96 } }, compress: undefined },
    data: { ...texts, sequences: 8, evaluationSequences: 4, sequenceLength: 24 },
    calibrate: {
      ...{ batch: 2, learningRate: 5e-3, heldOut: 0.25, evaluateEvery: 2, scope: "all", divergence: "reverse" },
      onPolicy: { promptTokens: 8, roundUpdates: 2 },
    },
  });
  const { code, stderr: said } = await run.start({ preload: killer.preload });
  expect([code, said]).toEqual([0, expect.anything()]);
  expected = run.results();
}, 300_000);

test("is built as the command builds it, measured before training, trained, evaluated and reported", () => {
  expect(built.layers).toHaveLength(2);
  for (const { residual } of built.layers) expect(residual).toBeLessThan(1);
  expect(built.heldOut.klToTeacher.mean).toBeGreaterThan(0);
  const made = JSON.parse(readFileSync(path.join(run.runDirectory, "dense-student.json"), "utf8")) as DenseStudentFile;
  expect(Object.entries(made.layers).map(([layer, plan]) => ({ layer: Number(layer), ...plan }))).toEqual(built.layers);
  const { teacher, before, after, comparison } = JSON.parse(expected["evaluation.json"]!) as EvaluationFile;
  expect(teacher!.cost.parametersTotal).toBeGreaterThan(before!.cost.parametersTotal);
  expect([before!.routing, after!.routing]).toEqual([null, null]);
  expect(comparison!.before).toBe(before!.klToTeacher);
  const { probe } = JSON.parse(expected["distillation.json"]!) as { probe: { rows: { active: number }[] } };
  expect(probe.rows.map(({ active }) => active)).toEqual([1, 8]);
  const report = readFileSync(path.join(run.runDirectory, "report.md"), "utf8");
  for (const heading of ["Quality by active experts", "Dense student"]) expect(report).toContain(`## ${heading}`);
  expect(expected["metrics.jsonl"]!.split("\n").filter((line) => line.includes('"update"'))).toHaveLength(4);
});

test("killed amid its rounds, it ends with the bytes of an undisturbed run", async () => {
  const written = killer.behind(/student-round-/);
  expect(written).toHaveLength(2);
  run.reset();
  const random = createRandom(52);
  const anywhere = isNightly ? spreadSteps(24, killer.steps(), (n) => random.below(n)) : [];
  const building = killer.behind(/dense-student\.json/);
  expect(building.length).toBeGreaterThan(0);
  const rounds = isNightly ? written.flatMap((step) => [step, step + 3]) : written.slice(1);
  let killed = 0;
  await killAtSteps(run, killer, [...building.slice(0, 1), ...rounds, ...anywhere], expected, () => killed++);
  expect(killed).toBeGreaterThan(0);
}, 3_600_000);
