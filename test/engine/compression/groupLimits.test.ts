import { mkdirSync, readFileSync, writeFileSync, copyFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { validatePlan } from "../../../src/engine/compression/plan/validatePlan";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { compressedSize, checkpointSize } from "../../../src/engine/compression/plannedSize";
import { routingWarnings } from "../../../src/engine/run/preflight/routingWarnings";
import { compressOptions, recipeSchema } from "../../../src/protocol/recipe";
import { goldenCases, goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { goldenSequences, openModel } from "../../support/tinyModels";

const folder = temporaryFolder();
const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };

/** Every golden and variant whose router chooses within groups. */
const limited = (
  await Promise.all(goldenCases().map(async ({ name, checkpoint }) => ({ name, model: await openModel(checkpoint) })))
).filter(({ model }) =>
  moeLayers(model.description).some(({ moe: { routing } }) => routing.kind !== "sparse-mixer" && routing.groups),
);

test("group limits are met in the goldens of DeepSeek, GLM and their relatives", () => {
  expect(new Set(limited.map(({ model }) => model.description.family))).toEqual(
    new Set([
      ...["deepseek_v2", "deepseek_v3", "deepseek_v32", "dots1", "exaone_moe", "glm4_moe", "glm4_moe_lite"],
      ...["mimo_v2_flash", "mistral4", "solar_open"],
    ]),
  );
});

describe.each(limited)("$name", ({ model }) => {
  const { moe } = moeLayers(model.description)[0]!;
  const groups = moe.routing.kind === "sparse-mixer" ? null : moe.routing.groups!;
  const planWith = (options: object) =>
    makePruningPlan({
      ...model,
      options: compressOptions.parse({ method: "random", ...options }),
      seed: 3,
      statistics: null,
      weightScores: null,
    });

  test("kept limits: every group loses as many", () => {
    const size = moe.numExperts / groups!.numGroups;
    const plan = planWith({ keep: moe.numExperts - groups!.numGroups });
    for (const { kept } of Object.values(plan.layers)) {
      const counts = Array.from(
        { length: groups!.numGroups },
        (_, g) => kept.filter((expert) => Math.floor(expert / size) === g).length,
      );
      expect(counts).toEqual(new Array(groups!.numGroups).fill(size - 1));
    }
    expect(() => planWith({ keep: moe.numExperts - 1 })).toThrow(/multiple of .*drop the limit/);
  });

  test("dropped limits: any number, one group in config.json, and a plan that says so", async () => {
    const keep = moe.numExperts - 1;
    const plan = planWith({ keep, groupLimits: "drop" });
    expect(plan.groupLimits).toBe("drop");
    expect(plan.notes?.[0]).toMatch(/Routing is no longer limited to \d of \d groups/);
    expect(() => {
      validatePlan(plan, model.description, model.fingerprint);
    }).not.toThrow();
    const { groupLimits: _, ...silent } = plan;
    expect(() => {
      validatePlan(silent, model.description, model.fingerprint);
    }).toThrow(/"groupLimits": "drop"/);

    const directory = path.join(folder, String(Math.random()).slice(2));
    await writeCompressedCheckpoint({ ...model, plan, directory, provenance });
    const student = await openModel(directory);
    // DeepSeek's spelling of the count, or EXAONE's.
    const count = "n_routed_experts" in model.checkpoint.config ? "n_routed_experts" : "num_experts";
    expect(student.checkpoint.config).toMatchObject({ n_group: 1, topk_group: 1, [count]: keep });
    for (const { moe: after } of moeLayers(student.description)) {
      expect(after.numExperts).toBe(keep);
      expect(after.routing).toMatchObject({ groups: null });
    }
    expect(compressedSize(model, compressOptions.parse({ keep, groupLimits: "drop" }))).toEqual(
      checkpointSize(student.checkpoint),
    );
  });
});

test("without limits a student selects by score alone", async () => {
  const model = await openModel(goldenCheckpoint("deepseek_v3"));
  const options = compressOptions.parse({ method: "random", keep: 7, groupLimits: "drop" });
  const plan = makePruningPlan({ ...model, options, seed: 5, statistics: null, weightScores: null });
  const directory = path.join(folder, "selects");
  await writeCompressedCheckpoint({ ...model, plan, directory, provenance });
  const student = await openModel(directory);
  const { ids, numSequences, sequenceLength } = await goldenSequences("deepseek_v3");
  const probe = await runForwardProbe({
    model: student,
    teacher: null,
    inputIds: ids,
    batch: numSequences,
    positions: sequenceLength,
    runtime,
    scratchDirectory: folder,
  });
  let tokens = 0;
  for (const { layer, moe } of moeLayers(student.description)) {
    const bias = await readFloat32(student.checkpoint.tensors.get(moe.router.correctionBias!.tensor)!);
    const logits = probe.get(`router_logits.${layer}`)!.data as Float32Array;
    const selected = Array.from(probe.get(`topk_ids.${layer}`)!.data as BigInt64Array, Number);
    for (let t = 0; t < ids.length; t++, tokens++) {
      const scores = Array.from(bias, (b, e) => 1 / (1 + Math.exp(-logits[t * 7 + e]!)) + b);
      const best = scores.map((score, e) => [score, e] as const).sort((a, b) => b[0] - a[0]);
      expect(selected.slice(t * 2, t * 2 + 2).sort()).toEqual([best[0]![1], best[1]![1]].sort());
    }
  }
  expect(tokens).toBeGreaterThan(40);
});

describe("warnings before any work", () => {
  const recipe = (more: object) =>
    recipeSchema.parse({ schemaVersion: 1, teacher: "t", output: "o", data: { calibration: "c" }, ...more });

  test("PhiMoE's routers get next to no gradient; other families' do", async () => {
    for (const { family, checkpoint } of goldenCases().filter(({ name, family: f }) => name === f)) {
      const { description } = await openModel(checkpoint);
      const warnings = routingWarnings(recipe({ calibrate: {} }), description);
      if (family === "phimoe") expect(warnings.join()).toMatch(/phimoe \(SparseMixer.*next to no gradient/);
      else expect(warnings).toEqual([]);
      expect(routingWarnings(recipe({}), description)).toEqual([]);
    }
  });

  test("dropped limits are announced where there are any", async () => {
    const drop = recipe({ compress: { groupLimits: "drop" } });
    expect(routingWarnings(drop, (await openModel(goldenCheckpoint("deepseek_v3"))).description)).toEqual([
      expect.stringMatching(/2 of 4 groups/),
    ]);
    expect(routingWarnings(drop, (await openModel(goldenCheckpoint("mixtral"))).description)).toEqual([]);
  });
});

test("a DeepSeek-V2 config names greedy selection afterwards", async () => {
  const { checkpoint } = goldenCases().find(({ name }) => name.startsWith("deepseek_v2-no-q-lora-groups"))!;
  const copy = path.join(folder, "v2");
  mkdirSync(copy);
  copyFileSync(path.join(checkpoint, "model.safetensors"), path.join(copy, "model.safetensors"));
  const config = JSON.parse(readFileSync(path.join(checkpoint, "config.json"), "utf8")) as Record<string, unknown>;
  writeFileSync(path.join(copy, "config.json"), JSON.stringify(config));
  const model = await openModel(copy);
  const options = compressOptions.parse({ method: "random", keep: 1, groupLimits: "drop" });
  const plan = makePruningPlan({ ...model, options, seed: 5, statistics: null, weightScores: null });
  const directory = path.join(folder, "v2-out");
  await writeCompressedCheckpoint({ ...model, plan, directory, provenance });
  expect((await openModel(directory)).checkpoint.config["topk_method"]).toBe("greedy");
});
