import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { expect, test } from "vitest";
import { ggufRole } from "../../../src/engine/model/ggufSummary";
import { inspectPath } from "../../../src/engine/model/inspect";
import { ggufBytes, type GgufTensorParts } from "../../support/ggufFile";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
const f32 = (name: string, ...shape: number[]): GgufTensorParts => ({
  name,
  type: 0,
  shape,
  data: new Uint8Array(4 * shape.reduce((product, n) => product * n, 1)),
});
const q8 = (name: string, ...shape: number[]): GgufTensorParts => ({
  name,
  type: 8,
  shape,
  data: new Uint8Array((34 * shape.reduce((product, n) => product * n, 1)) / 32),
});

/** Layer 0 dense, layer 1 with four experts of which a token meets two, and a shared one. */
const moe = ggufBytes({
  metadata: [
    ["general.architecture", { string: "deepseek2" }],
    ["deepseek2.block_count", { uint32: 2 }],
    ["deepseek2.embedding_length", { uint32: 32 }],
    ["deepseek2.expert_count", { uint32: 4 }],
    ["deepseek2.expert_used_count", { uint32: 2 }],
    ["tokenizer.ggml.tokens", { strings: ["a", "b", "c"] }],
  ],
  tensors: [
    f32("token_embd.weight", 3, 32),
    f32("blk.0.attn_norm.weight", 32),
    q8("blk.0.ffn_gate.weight", 64, 32),
    f32("blk.1.ffn_gate_inp.weight", 4, 32),
    f32("blk.1.exp_probs_b.bias", 4),
    q8("blk.1.ffn_gate_exps.weight", 4, 64, 32),
    q8("blk.1.ffn_up_exps.weight", 4, 64, 32),
    q8("blk.1.ffn_down_exps.weight", 4, 32, 64),
    q8("blk.1.ffn_down_shexp.weight", 32, 64),
  ],
});

test("a GGUF model: experts, router, types, sizes, active parameters", async () => {
  const file = path.join(folder, "model-Q8_0.gguf");
  await writeFile(file, moe);
  const summary = await inspectPath(file);
  const experts = 3 * 4 * 64 * 32;
  const total = 3 * 32 + 32 + 64 * 32 + 4 * 32 + 4 + experts + 32 * 64;
  expect(summary).toMatchObject({
    modelType: "deepseek2",
    supported: false,
    parametersTotal: total,
    parametersActive: total - experts / 2,
    vocabSize: 3,
    hiddenSize: 32,
    numLayers: 2,
    numExpertsPerToken: 2,
    tensors: 9,
    shards: 1,
    dtypes: { F32: { tensors: 4 }, Q8_0: { tensors: 5, bytes: ((5 * 64 * 32 + 3 * 3 * 64 * 32) * 34) / 32 } },
  });
  expect(summary.unsupportedReason).toMatch(/inspection only/);
  expect(summary.layers[0]!.moe).toBeNull();
  expect(summary.layers[1]!.moe).toEqual({
    numExperts: 4,
    routerTensor: "blk.1.ffn_gate_inp.weight",
    router: { parameters: 132, bytes: 528 },
    experts: { parameters: experts, bytes: (experts * 34) / 32 },
    sharedExperts: { parameters: 2048, bytes: 2176 },
  });
});

test("a folder with one GGUF model is that model; with two it is asked which", async () => {
  const inside = path.join(folder, "inside");
  await mkdir(inside);
  await writeFile(path.join(inside, "a.gguf"), moe);
  expect((await inspectPath(inside)).path).toBe(path.join(inside, "a.gguf"));
  await writeFile(path.join(inside, "b.gguf"), moe);
  await expect(inspectPath(inside)).rejects.toMatchObject({
    code: "checkpoint/not-found",
    message: expect.stringMatching(/2 GGUF models .*name one of the files/) as unknown,
  });
});

test("a folder with a model and what belongs to it is the model, with notes", async () => {
  const inside = path.join(folder, "beside");
  await mkdir(inside);
  const file = (name: string, metadata: [string, { string: string }][] = []) =>
    writeFile(path.join(inside, name), ggufBytes({ metadata }));
  await writeFile(path.join(inside, "model-Q4_K.gguf"), moe);
  await file("mmproj-F16.gguf");
  await file("imatrix_unsloth.gguf");
  await file("a.gguf", [["general.architecture", { string: "clip" }]]);
  await file("b.gguf", [["general.type", { string: "imatrix" }]]);
  await file("c.gguf", [["general.type", { string: "adapter" }]]);
  const summary = await inspectPath(inside);
  expect(summary.path).toBe(path.join(inside, "model-Q4_K.gguf"));
  expect(summary.notes.map((note) => note.split(" ")[0])).toEqual([
    ...["a.gguf", "b.gguf", "c.gguf", "imatrix_unsloth.gguf", "mmproj-F16.gguf"],
  ]);
});

test("a dense model and an importance matrix say what they are", async () => {
  const dense = path.join(folder, "dense.gguf");
  await writeFile(dense, ggufBytes({ tensors: [f32("blk.0.ffn_up.weight", 4, 4)] }));
  expect(await inspectPath(dense)).toMatchObject({
    modelType: null,
    numLayers: 1,
    parametersActive: 16,
    unsupportedReason: expect.stringMatching(/no Mixture-of-Experts layer/) as unknown,
  });
  const imatrix = path.join(folder, "imatrix.gguf");
  await writeFile(imatrix, ggufBytes({ metadata: [["general.type", { string: "imatrix" }]] }));
  expect((await inspectPath(imatrix)).unsupportedReason).toMatch(/import-trace/);
});

test.each([
  ["blk.3.ffn_gate_inp.weight", 3, "router", null],
  ["blk.3.ffn_gate_inp_shexp.weight", 3, "shared-expert", null],
  ["blk.3.ffn_gate_up_exps.weight", 3, "expert", null],
  ["blk.3.ffn_down.7.weight", 3, "expert", 7],
  ["blk.3.ffn_down.weight", 3, "other", null],
  ["blk.3.exp_probs_b.bias", 3, "router", null],
  ["output.weight", null, "other", null],
])("role of %s", (name, layer, kind, expert) => {
  expect(ggufRole(name)).toEqual({ layer, kind, expert });
});
