import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { layoutNeedsOfPlan, validateLayout } from "../../../src/engine/compression/plan/validateLayout";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { makePlan } from "../../../src/engine/compression/methods";
import { families } from "../../../src/engine/model/families/index";
import type { OpenModel } from "../../../src/engine/run/work";
import type { CompressionPlan, EditingPlan, MergingPlan, PruningPlan } from "../../../src/protocol/plan";
import { goldenCheckpoint, readGolden } from "../../support/goldens";
import { writeFused } from "../../support/otherLayouts";
import { isNightly } from "../../support/nightly";
import { withPredictionLayer } from "../../support/predictionLayer";
import { openModel } from "../../support/tinyModels";
import { compress, difference, logitsOf, makeContext, scratch } from "./support";

/**
 * Merging and editing of every row of the family table, in every layout: what comes out holds together, correction biases,
 * router biases, group limits and every spelling of the number of experts included.
 */

const { folder, fresh } = scratch();

/**
 * Families that differ in what merging and editing touch: storage of experts, biases, group limits, shared experts, what
 * multiplies an output. The others differ from one of these in attention, in names or in what is around them: their bytes
 * every day, what they compute in the nightly run.
 */
const computedDaily = [
  ...["mixtral", "qwen3_moe", "deepseek_v3", "granitemoe", "gpt_oss", "llama4_text", "ernie4_5_moe", "gemma4_text"],
  ...["phimoe", "minimax_m2", "glm4_moe with a prediction layer", "deepseek_v3 fused"],
];
const models = [...families.keys()].map((family): [name: string, open: () => Promise<OpenModel>] => [
  family,
  () => openModel(goldenCheckpoint(family)),
]);
for (const family of ["deepseek_v3", "glm4_moe"]) {
  models.push([`${family} with a prediction layer`, () => withPredictionLayer(family, folder)]);
}
for (const family of ["qwen3_moe", "deepseek_v3"]) {
  models.push([`${family} fused`, () => writeFused(family, fresh())]);
}

async function keptOf(model: OpenModel): Promise<Record<string, number[]>> {
  const golden = await readGolden(model.family.modelType);
  const kept = [...golden].filter(([name]) => name.startsWith("kept."));
  return Object.fromEntries(kept.map(([name, { values }]) => [name.slice("kept.".length), values]));
}

/** Every expert that is not kept joins the first kept one, with the weight that `share` gives it. */
async function mergingPlan(model: OpenModel, router: MergingPlan["router"], share: number): Promise<MergingPlan> {
  const kept = await keptOf(model);
  const layers = moeLayers(model.description).map(({ layer, moe }) => {
    const ids = kept[String(layer)]!;
    const groups = ids.map((dominant, i) => {
      const others = Array.from({ length: moe.numExperts }, (_, e) => e).filter((e) => !ids.includes(e));
      const members = i === 0 ? [dominant, ...others].sort((a, b) => a - b) : [dominant];
      const rest = members.length > 1 ? share / (members.length - 1) : 0;
      return {
        members,
        weights: members.map((e) => (e === dominant ? 1 - rest * (members.length - 1) : rest)),
        dominant,
      };
    });
    return [String(layer), { groups }] as const;
  });
  const about = { schemaVersion: 1, paradigm: "merging", method: "manual", alignment: "none" } as const;
  return { ...about, router, layers: Object.fromEntries(layers) };
}

function editingPlan(model: OpenModel, rank: number, output: EditingPlan["output"]): EditingPlan {
  const ranks = { gateProj: rank, upProj: rank, downProj: rank };
  const layers = moeLayers(model.description).map(({ layer }) => [String(layer), { ranks }] as const);
  const about = { schemaVersion: 1, paradigm: "editing", method: "svd" } as const;
  return { ...about, output, layers: Object.fromEntries(layers) };
}

async function apply(model: OpenModel, plan: CompressionPlan): Promise<OpenModel> {
  const directory = fresh();
  await compress(await makeContext(model, fresh(), {}, null), plan, directory);
  return openModel(directory);
}

function expectSameFiles(a: OpenModel, b: OpenModel): void {
  const tensors = ({ checkpoint }: OpenModel) =>
    [...checkpoint.tensors.values()]
      .map(({ name, dtype, shape, shard, byteOffset, byteLength }) => {
        const bytes = readFileSync(shard.realPath).subarray(byteOffset, byteOffset + byteLength);
        return { name, dtype, shape, bytes: bytes.toString("base64") };
      })
      .sort((x, y) => (x.name < y.name ? -1 : 1));
  expect(tensors(a)).toEqual(tensors(b));
  expect(a.checkpoint.config).toEqual(b.checkpoint.config);
}

test("made plans say what becomes of a prediction layer", async () => {
  const model = await withPredictionLayer("glm4_moe", folder);
  const number = model.description.layers.length;
  for (const [router, expected] of [
    ["fold", 1],
    ["map", 0],
  ] as const) {
    const context = await makeContext(model, fresh(), { method: "m-smoe", keep: 5, options: { router } });
    const notes = ((await makePlan(context)).notes ?? []).filter((note) => note.includes("predicts further tokens"));
    expect(notes).toHaveLength(expected);
    for (const note of notes) {
      expect(note).toContain(`layer ${number} predicts`);
      expect(note).toContain(`keeps unmerged the experts with the dominant ids of layer ${number - 1}`);
    }
  }
});

describe.each(models)("%s", (name, open) => {
  const computes = isNightly || computedDaily.includes(name);
  let model: OpenModel;
  beforeAll(async () => {
    model = await open();
  });
  let original: Promise<Float32Array> | undefined;
  const originalLogits = () => (original ??= logitsOf(model, folder));

  test("folded groups that weigh only their dominant expert are pruning, to the byte", async () => {
    const merged = await apply(model, await mergingPlan(model, "fold", 0));
    const kept = await keptOf(model);
    const pruning: PruningPlan = {
      ...{ schemaVersion: 1, paradigm: "pruning", method: "manual" },
      layers: Object.fromEntries(Object.entries(kept).map(([layer, ids]) => [layer, { kept: ids }])),
    };
    expectSameFiles(merged, await apply(model, pruning));
  });

  test.runIf(computes)("mapped and duplicated routers compute the same, and keep the number of experts", async () => {
    const [mapped, duplicated] = [
      await apply(model, await mergingPlan(model, "map", 0.5)),
      await apply(model, await mergingPlan(model, "duplicate", 0.5)),
    ];
    expect(duplicated.checkpoint.config).toEqual(model.checkpoint.config);
    expect(mapped.checkpoint.config).toMatchObject(model.checkpoint.config);
    const first = moeLayers(model.description)[0]!;
    expect(mapped.checkpoint.config["logical_num_experts"]).toBe(first.moe.numExperts);
    const logits = await logitsOf(duplicated, folder);
    expect(difference(await logitsOf(mapped, folder), logits)).toBeLessThan(1e-5);
    expect(difference(await originalLogits(), logits)).toBeGreaterThan(0);
  });

  test("editing leaves everything but experts as it is, and factors compute what they multiply to", async () => {
    expectSameFiles(await apply(model, editingPlan(model, 1000, "dense")), model);
    const dense = await apply(model, editingPlan(model, 6, "dense"));
    expect(dense.checkpoint.config).toEqual(model.checkpoint.config);
    const logits = computes ? await logitsOf(dense, folder) : null;
    if (logits !== null) expect(difference(await originalLogits(), logits)).toBeGreaterThan(1e-4);
    const factored = editingPlan(model, 6, "factored");
    const { moe } = moeLayers(model.description)[0]!;
    if (moe.storage.kind === "fused") {
      expect(() => {
        validateLayout(layoutNeedsOfPlan(factored), model.description);
      }).toThrow(/fused/);
      return;
    }
    const student = await apply(model, factored);
    const { reroute_factored: mark, ...rest } = student.checkpoint.config;
    expect(mark).toBeDefined();
    expect(rest).toEqual(model.checkpoint.config);
    // Both are rounded to the stored dtype: factors here, their product there.
    if (logits !== null) expect(difference(await logitsOf(student, folder), logits)).toBeLessThan(0.05);
  });
});
