import { describe, expect, it } from "vitest";
import { withRenumberedPatterns } from "../../../src/engine/compression/pruning/renumberPatterns";
import { makePlan } from "../../../src/engine/compression/methods";
import type { ModelDescription } from "../../../src/engine/model/description";
import type { PruningPlan, QuantisationPlan } from "../../../src/protocol/plan";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { compress, logitsOf, makeContext, openModel, scratch } from "./support";

const { fresh } = scratch();
const pruning = (kept: Record<string, number[]>): PruningPlan => ({
  ...{ schemaVersion: 1, paradigm: "pruning", method: "manual" },
  layers: Object.fromEntries(Object.entries(kept).map(([layer, own]) => [layer, { kept: own }])),
});

/** A model of which only layers and names of experts matter. */
function named(layers: number[], experts: number): ModelDescription {
  const weight = (layer: number, e: number) => ({
    ...{ offset: 0, shape: [1, 1], dtype: "I32" },
    tensor: `model.layers.${layer}.mlp.experts.${e}.up_proj.weight_packed`,
  });
  return {
    layers: layers.map((index) => ({
      index,
      feedForward: {
        ...{ kind: "moe", storage: { kind: "per-expert" } },
        experts: Array.from({ length: experts }, (_, e) => ({ weight: weight(index, e) })),
      },
    })),
  } as unknown as ModelDescription;
}

const gptq = (dynamic: object) => ({
  quantization_config: { quant_method: "gptq", bits: 4, group_size: 32, desc_act: false, dynamic },
});
const eight = { bits: 8 };

describe("patterns follow the experts that they name", () => {
  const kept = { "0": [1, 3], "1": [0, 3] };
  it.each<[string, object, object]>([
    [
      "a list of a layer",
      { "re:.*\\.layers\\.0\\..*experts\\.(1|2|3)\\.": eight },
      { "re:.*\\.layers\\.0\\..*experts\\.(0|1)\\.": eight },
    ],
    ["one", { ".*layers\\.1\\.mlp\\.experts\\.3\\.": eight }, { ".*layers\\.1\\.mlp\\.experts\\.1\\.": eight }],
    ["a name", { "-:model.layers.1.mlp.experts.3.up_proj": {} }, { "-:model.layers.1.mlp.experts.1.up_proj": {} }],
    ["one that leaves", { ".*layers\\.1\\..*experts\\.2\\.": eight }, {}],
    [
      "several layers, one after the other",
      { ".*layers\\.(0|1)\\..*experts\\.3\\.": eight },
      { ".*layers\\.0\\..*experts\\.1\\.": eight, ".*layers\\.1\\..*experts\\.1\\.": eight },
    ],
    ["any expert", { ".*layers\\.1\\..*experts\\.\\d+\\.": eight }, { ".*layers\\.1\\..*experts\\.\\d+\\.": eight }],
    ["every layer, where all become the same", { ".*experts\\.3\\.": eight }, { ".*experts\\.1\\.": eight }],
  ])("%s", (_, before, after) => {
    const strip = (dynamic: object) =>
      Object.fromEntries(Object.entries(dynamic).map(([key, own]) => [key.replace(/^re:/, ""), own as unknown]));
    const found = withRenumberedPatterns(gptq(strip(before)), named([0, 1], 4), pruning(kept));
    expect(found).toEqual(gptq(strip(after)));
  });

  it("what names experts in another way is refused where it would then mean others", () => {
    const by = (pattern: string) => withRenumberedPatterns(gptq({ [pattern]: eight }), named([0, 1], 4), pruning(kept));
    expect(() => by(".*layers\\.0\\..*experts\\.[01]\\.")).toThrow(/Expert 3 of layer 0 becomes number 1/);
    expect(() => by(".*experts\\.0\\.")).toThrow(/Expert 1 of layer 0 becomes number 0/);
    expect(by(".*layers\\.0\\..*experts\\.[0-3]\\.")).toBeTruthy();
  });
});

it("a checkpoint of mixed widths: experts pruned after quantising are those pruned before", async () => {
  const model = await openModel(goldenCheckpoint("qwen3_moe"));
  const context = await makeContext(model, temporaryFolder(), { method: "rtn", options: { bits: 4, group: 8 } }, null);
  const uniform = (await makePlan(context)) as QuantisationPlan;
  const widths = [8, 4, 3, 8, 2, 4, 8, 3] as const;
  const mixed = (kept: readonly number[]): QuantisationPlan => ({
    ...uniform,
    layers: Object.fromEntries(
      Object.entries(uniform.layers).map(([layer, own]) => [
        layer,
        { ...own, experts: kept.map((e) => widths[(e + Number(layer)) % 8]!) },
      ]),
    ),
  });
  const kept = [1, 2, 4, 7];
  const plan = pruning({ "0": kept, "1": kept, "2": kept });
  const options = { keep: 0.5 };
  const quantised = await compress(context, mixed([0, 1, 2, 3, 4, 5, 6, 7]), fresh());
  const after = await compress({ ...context, ...quantised }, { ...plan, options }, fresh());
  const pruned = await compress(context, { ...plan, options }, fresh());
  const { teacherFingerprint: _, ...anyModel } = mixed(kept);
  const before = await compress({ ...context, ...pruned }, anyModel, fresh());
  expect(await logitsOf(after, temporaryFolder())).toEqual(await logitsOf(before, temporaryFolder()));
});
