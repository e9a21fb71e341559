import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { LinearDescription, MoeDescription } from "../../../src/engine/model/description";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { addTensor, openGolden, type EditableCheckpoint } from "./goldens";

interface Case {
  family: string;
  changes: Record<string, unknown>;
  tensors: Record<string, number[]>;
}
const fixture = readFileSync(path.join("test", "fixtures", "inMemoryTensors.json"), "utf8");
const { cases } = JSON.parse(fixture) as { cases: Case[] };

/** A golden checkpoint whose tensors are replaced by header entries. */
async function withTensors({ family, changes, tensors }: Case): Promise<EditableCheckpoint> {
  const checkpoint = await openGolden(family);
  Object.assign(checkpoint.config, changes);
  checkpoint.tensors.clear();
  for (const [name, shape] of Object.entries(tensors)) addTensor(checkpoint, name, shape);
  return checkpoint;
}

function moeOf(checkpoint: EditableCheckpoint): MoeDescription {
  const { description } = describeModel(checkpoint);
  const moe = description.layers.map((layer) => layer.feedForward).find((part) => part.kind === "moe");
  if (moe?.kind !== "moe") throw new Error("no MoE layer");
  return moe;
}

describe("needs exactly the tensors that transformers has for an option", () => {
  it.each(cases.map((item) => [`${item.family} ${JSON.stringify(item.changes)}`, item] as const))(
    "%s",
    async (_, item) => {
      const checkpoint = await withTensors(item);
      expect(describeModel(checkpoint).description.unusedTensors).toEqual([]);
      for (const [tensor, entry] of [...checkpoint.tensors]) {
        checkpoint.tensors.delete(tensor);
        expect(() => describeModel(checkpoint), tensor).toThrow(/cannot find tensor/);
        checkpoint.tensors.set(tensor, entry);
      }
    },
  );
});

describe("fused experts", () => {
  const plain = cases.filter(({ family, changes }) => Object.keys(changes).length === 0 && family !== "gpt_oss");
  it.each(plain)("$family: gate rows, then up rows, in one tensor", async (item) => {
    const fused = moeOf(await withTensors(item));
    const perExpert = moeOf(await openGolden(item.family));
    const [hidden, intermediate, expert] = [32, 24, 5];
    const { gateUp, downProj } = fused.experts[expert]!;
    if (gateUp.kind !== "separate") throw new Error("not separate");
    const matrix = hidden * intermediate;
    const place = ({ weight }: LinearDescription) => [weight.offset, weight.shape];
    expect(place(gateUp.gateProj)).toEqual([expert * 2 * matrix, [intermediate, hidden]]);
    expect(place(gateUp.upProj)).toEqual([expert * 2 * matrix + matrix, [intermediate, hidden]]);
    expect(place(downProj)).toEqual([expert * matrix, [hidden, intermediate]]);
    expect(fused.storage).toMatchObject({
      kind: "fused",
      tensors: [gateUp.gateProj.weight.tensor, downProj.weight.tensor],
    });
    expect(fused.routing).toEqual(perExpert.routing);
    if (perExpert.storage.kind !== "per-expert") return;
    const { prefix, suffixes } = perExpert.storage;
    const names = suffixes.map((suffix) => `${prefix}${expert}${suffix}`);
    // What a quantisation calls them when it takes them apart: the names that the family is released with.
    const { split } = fused.storage as Extract<typeof fused.storage, { kind: "fused" }>;
    const isReleased = fused.router.weight.tensor.startsWith(prefix.slice(0, -"experts.".length));
    const apart = (["gateProj", "upProj", "downProj"] as const).map(
      (one) => split && `${split.prefix}${expert}.${split.projections[one]}.weight`,
    );
    // Mixtral's block has another name in memory, and no loader knows its experts' names there.
    expect(apart).toEqual(isReleased ? names : names.map(() => undefined));
    const views = perExpert.experts[expert]!;
    if (views.gateUp.kind !== "separate") throw new Error("not separate");
    expect([views.gateUp.gateProj, views.gateUp.upProj, views.downProj].map(({ weight }) => weight.tensor)).toEqual(
      names,
    );
  });

  it("of gpt-oss alternate gate and up, with biases", async () => {
    const moe = moeOf(await openGolden("gpt_oss"));
    const prefix = "model.layers.0.mlp.experts";
    const bias = (name: string, offset: number, size: number) => ({
      tensor: `${prefix}.${name}`,
      offset,
      shape: [size],
      dtype: "BF16",
    });
    expect(moe.experts[2]).toEqual({
      gateUp: {
        kind: "joined",
        order: "interleaved",
        projection: {
          weight: { tensor: `${prefix}.gate_up_proj`, offset: 2 * 32 * 48, shape: [32, 48], dtype: "BF16" },
          bias: bias("gate_up_proj_bias", 2 * 48, 48),
          layout: "in-out",
        },
      },
      downProj: {
        weight: { tensor: `${prefix}.down_proj`, offset: 2 * 24 * 32, shape: [24, 32], dtype: "BF16" },
        bias: bias("down_proj_bias", 2 * 32, 32),
        layout: "in-out",
      },
    });
  });
});

describe("quantised tensors", () => {
  it("MXFP4 experts of gpt-oss are views of codes and exponents", async () => {
    const checkpoint = await openGolden("gpt_oss");
    Object.assign(checkpoint.config, { intermediate_size: 64, quantization_config: { quant_method: "mxfp4" } });
    for (let layer = 0; layer < 3; layer++) {
      const prefix = `model.layers.${layer}.mlp.experts`;
      for (const [name, rows, columns] of [
        ["gate_up_proj", 128, 32],
        ["down_proj", 32, 64],
      ] as const) {
        checkpoint.tensors.delete(`${prefix}.${name}`);
        addTensor(checkpoint, `${prefix}.${name}_blocks`, [8, rows, columns / 32, 16], "U8");
        addTensor(checkpoint, `${prefix}.${name}_scales`, [8, rows, columns / 32], "U8");
        addTensor(checkpoint, `${prefix}.${name}_bias`, [8, rows]);
      }
    }
    const moe = moeOf(checkpoint);
    const prefix = "model.layers.0.mlp.experts";
    expect(moe.experts[3]!.downProj).toMatchObject({
      layout: "out-in",
      weight: {
        tensor: `${prefix}.down_proj_blocks`,
        offset: 3 * 32 * 2 * 16,
        shape: [32, 64],
        dtype: "U8",
        quantisation: {
          kind: "mxfp4",
          scales: { tensor: `${prefix}.down_proj_scales`, offset: 3 * 32 * 2, shape: [32, 2], dtype: "U8" },
        },
      },
    });
    const stored = [
      "gate_up_proj_blocks",
      "gate_up_proj_scales",
      "gate_up_proj_bias",
      "down_proj_blocks",
      "down_proj_scales",
      "down_proj_bias",
    ];
    expect(moe.storage).toEqual({ kind: "fused", tensors: stored.map((name) => `${prefix}.${name}`) });
  });

  /** Makes every projection of a golden checkpoint F8 with block scales, rounded up at the edges. */
  function quantise(checkpoint: EditableCheckpoint, blockRows: number, blockColumns: number): void {
    checkpoint.config["quantization_config"] = {
      quant_method: "fp8",
      activation_scheme: "dynamic",
      weight_block_size: [blockRows, blockColumns],
    };
    for (const [name, entry] of [...checkpoint.tensors]) {
      const [rows, columns] = entry.shape;
      if (!name.endsWith("_proj.weight") || rows === undefined || columns === undefined) continue;
      checkpoint.tensors.set(name, { ...entry, dtype: "F8_E4M3" });
      addTensor(
        checkpoint,
        `${name}_scale_inv`,
        [Math.ceil(rows / blockRows), Math.ceil(columns / blockColumns)],
        "F32",
      );
    }
  }

  it.each(["deepseek_v3", "glm4_moe", "qwen3_moe"])("F8 blocks of %s carry their scales", async (family) => {
    const checkpoint = await openGolden(family);
    quantise(checkpoint, 16, 10);
    const { storage, experts } = moeOf(checkpoint);
    const layer = storage.kind === "per-expert" ? storage.prefix : "";
    expect(storage).toMatchObject({
      suffixes: ["gate_proj", "up_proj", "down_proj"].flatMap((name) => [
        `.${name}.weight`,
        `.${name}.weight_scale_inv`,
      ]),
    });
    expect(experts[1]!.downProj.weight).toEqual({
      tensor: `${layer}1.down_proj.weight`,
      offset: 0,
      shape: [32, 24],
      dtype: "F8_E4M3",
      quantisation: {
        kind: "scaled",
        scales: { tensor: `${layer}1.down_proj.weight_scale_inv`, offset: 0, shape: [2, 3], dtype: "F32" },
        blockRows: 16,
        blockColumns: 10,
      },
    });
    expect(describeModel(checkpoint).description.unusedTensors).toEqual([]);
  });

  const first = "model.layers.1.mlp.experts.0.gate_proj.weight";
  const rows: { name: string; edit: (checkpoint: EditableCheckpoint) => unknown; code: string }[] = [
    {
      name: "F8 without scales",
      edit: ({ tensors }) => tensors.delete(`${first}_scale_inv`),
      code: "checkpoint/unsupported-dtype",
    },
    {
      name: "F8 without a block size",
      edit: ({ config }) => delete config["quantization_config"],
      code: "model/unsupported-option",
    },
    {
      name: "scales of another shape",
      edit: (c) => addTensor(c, `${first}_scale_inv`, [9, 9], "F32"),
      code: "checkpoint/shape-mismatch",
    },
    {
      name: "scales that are not numbers",
      edit: (c) => addTensor(c, `${first}_scale_inv`, [2, 4], "I32"),
      code: "checkpoint/unsupported-dtype",
    },
    { name: "integers", edit: (c) => addTensor(c, first, [24, 32], "I8"), code: "checkpoint/unsupported-dtype" },
    {
      name: "double precision",
      edit: (c) => addTensor(c, first, [24, 32], "F64"),
      code: "checkpoint/unsupported-dtype",
    },
    {
      name: "an F8 norm",
      edit: (c) => addTensor(c, "model.norm.weight", [32], "F8_E4M3"),
      code: "checkpoint/unsupported-dtype",
    },
  ];
  it.each(rows)("refuses $name", async ({ edit, code }) => {
    const checkpoint = await openGolden("deepseek_v3");
    quantise(checkpoint, 16, 10);
    edit(checkpoint);
    expect(() => describeModel(checkpoint)).toThrow(expect.objectContaining({ code }));
  });
});

describe("merged checkpoints with a logical map", () => {
  const map = [0, 1, 2, 2, 1, 0, 2, 2];
  const merged = async (changes: Record<string, unknown>) => {
    const checkpoint = await openGolden("qwen3_moe");
    Object.assign(checkpoint.config, {
      expert_id_mapping: [map, map, map],
      logical_num_experts: 8,
      physical_num_experts: 3,
      ...changes,
    });
    return checkpoint;
  };

  it("keep all router rows and fewer experts", async () => {
    const moe = moeOf(await merged({}));
    expect([moe.numExperts, moe.experts.length, moe.router.weight.shape, moe.logicalToPhysical]).toEqual([
      3,
      3,
      [8, 32],
      map,
    ]);
  });

  it.each([
    { name: "an id beyond the experts", changes: { physical_num_experts: 2 } },
    { name: "a layer too few", changes: { expert_id_mapping: [map, map] } },
    { name: "a logical expert too few", changes: { expert_id_mapping: [map, map, map.slice(1)] } },
    { name: "no map for an MoE layer", changes: { expert_id_mapping: [map, null, map] } },
    { name: "a map that is no list", changes: { expert_id_mapping: "0" } },
    { name: "no physical count", changes: { physical_num_experts: null } },
  ])("refuse $name", async ({ changes }) => {
    const checkpoint = await merged(changes);
    expect(() => describeModel(checkpoint)).toThrow(expect.objectContaining({ code: "checkpoint/malformed" }));
  });
});

describe("language models inside multimodal checkpoints", () => {
  const roots = [
    { body: "model.language_model.", head: "lm_head." },
    { body: "language_model.model.", head: "language_model.lm_head." },
    { body: "language_model.model.", head: "lm_head." },
    { body: "model.", head: "lm_head." },
  ];
  const rows = [
    ...["mistral4", "deepseek_v3", "glm4_moe", "granitemoe"],
    ...["qwen3_5_moe_text", "llama4_text", "gemma4_text"],
  ].flatMap((family) => roots.map((root) => [family, root.body, root.head] as const));

  it.each(rows)("%s under %s and %s is the plain model with other names", async (family, body, head) => {
    const plain = await openGolden(family);
    const rename = (name: string) => name.replace(/^model\./, body).replace(/^lm_head\./, head);
    const inside = await openGolden(family);
    inside.config = { model_type: "a_wrapper", text_config: plain.config };
    inside.tensors.clear();
    for (const [name, entry] of plain.tensors) inside.tensors.set(rename(name), { ...entry, name: rename(name) });
    addTensor(inside, "vision_tower.encoder.layers.0.weight", [4, 4]);
    const { family: found, description } = describeModel(inside);
    const renamed = JSON.stringify(describeModel(plain).description).replace(
      /"((?:model|lm_head)\.[^"]*)"/g,
      (_, name: string) => JSON.stringify(rename(name)),
    );
    const expected = { ...(JSON.parse(renamed) as object), unusedTensors: ["vision_tower.encoder.layers.0.weight"] };
    expect(JSON.parse(JSON.stringify(description))).toEqual(expected);
    const written = found.withNumExperts(inside.config, 5);
    expect(written["text_config"]).toEqual(families.get(family)!.withNumExperts(plain.config, 5));
    expect(written["model_type"]).toBe("a_wrapper");
    const layer = description.layers.length - 1;
    const listed = found.perExpertTensors(layer).filter(({ name }) => inside.tensors.has(name));
    expect(listed.map(({ name }) => name)).toEqual(
      families
        .get(family)!
        .perExpertTensors(layer)
        .map(({ name }) => rename(name))
        .filter((name, i, all) => inside.tensors.has(name) && all.indexOf(name) === i),
    );
  });

  it("reads Qwen3-VL's experts with both axes the other way round, as released", async () => {
    const checkpoint = await openGolden("qwen3_vl_moe");
    for (const [name, entry] of [...checkpoint.tensors]) {
      const [experts, rows, columns] = entry.shape as [number, number, number];
      if (name.includes(".mlp.experts.")) checkpoint.tensors.set(name, { ...entry, shape: [experts, columns, rows] });
    }
    const { experts } = moeOf(checkpoint);
    const prefix = "model.language_model.layers.0.mlp.experts";
    const view = (name: string, shape: number[]) => ({
      weight: { tensor: `${prefix}.${name}`, offset: 3 * shape[0]! * shape[1]!, shape, dtype: "BF16" },
      bias: null,
      layout: "in-out",
    });
    expect(experts[3]).toEqual({
      gateUp: { kind: "joined", order: "halves", projection: view("gate_up_proj", [32, 48]) },
      downProj: view("down_proj", [24, 32]),
    });
  });
});

describe("number of experts in a config", () => {
  it.each([
    {
      family: "qwen3_moe",
      config: { num_experts: 8, top_k: 5 },
      expected: { num_experts: 5, num_local_experts: 5, top_k: 5 },
    },
    { family: "mixtral", config: { num_local_experts: 8 }, expected: { num_experts: 5, num_local_experts: 5 } },
    { family: "qwen2_moe", config: { num_experts: 8 }, expected: { num_experts: 5 } },
    { family: "olmoe", config: { num_experts: 8 }, expected: { num_experts: 5, num_local_experts: 5 } },
    { family: "deepseek_v2", config: { n_routed_experts: 8 }, expected: { n_routed_experts: 5 } },
    {
      family: "deepseek_v3",
      config: { n_routed_experts: 8, num_local_experts: 8, n_group: 4 },
      expected: { n_routed_experts: 5, num_local_experts: 5, n_group: 4 },
    },
    {
      family: "glm4_moe",
      config: { n_routed_experts: 8, num_experts: null },
      expected: { n_routed_experts: 5, num_experts: null },
    },
    { family: "gpt_oss", config: { num_local_experts: 8 }, expected: { num_local_experts: 5, num_experts: 5 } },
    { family: "granitemoe", config: { num_local_experts: 8 }, expected: { num_local_experts: 5 } },
    { family: "phimoe", config: { num_local_experts: 8 }, expected: { num_local_experts: 5 } },
    {
      family: "ernie4_5_moe",
      config: { moe_num_experts: 8, moe_capacity: [8, 8, 8] },
      expected: { moe_num_experts: 5, moe_capacity: [5, 5, 5] },
    },
    { family: "hunyuan_v1_moe", config: { num_experts: [8, 8] }, expected: { num_experts: [5, 5] } },
    { family: "hunyuan_v1_moe", config: { num_experts: 8 }, expected: { num_experts: 5 } },
    { family: "minimax_m2", config: { num_local_experts: 8 }, expected: { num_local_experts: 5 } },
  ])("$family $config", ({ family, config, expected }) => {
    const before = structuredClone(config);
    expect(families.get(family)!.withNumExperts(config, 5)).toEqual(expected);
    expect(config).toEqual(before);
  });
});
