import { cpSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { readSafetensorsFile, writeSafetensorsFile } from "../../../src/engine/checkpoint/safetensorsFile";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { tensorFromBytes } from "../../../src/engine/checkpoint/tensorSource";
import { readExpert } from "../../../src/engine/compression/layer/expertMatrices";
import { LayerStages } from "../../../src/engine/compression/layer/stage";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { inputPlace, rescaledTensors } from "../../../src/engine/compression/quantising/inputScales";
import { checkWritten } from "../../../src/engine/compression/quantising/readBack";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { createRandom } from "../../../src/engine/tensor/random";
import { decodeFloats, encodeFloats, type WritableFloat } from "../../../src/engine/tensor/floatCodec";
import type { QuantisationPlan } from "../../../src/protocol/plan";
import { goldenCheckpoint } from "../../support/goldens";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";
import { makeContext, randomSequences, runtime } from "./support";

type Model = Awaited<ReturnType<typeof openModel>>;

async function finalStates({ description }: Model, checkpoint: Checkpoint): Promise<Float32Array> {
  const ids = Int32Array.from({ length: 24 }, (_, i) => (i * 7 + 3) % description.vocabSize);
  const executor = await ModelExecutor.open({
    ...{ checkpoint, description, runtime, sequenceLength: ids.length },
    ...{ direction: "forward", scratchDirectory: temporaryFolder() },
  });
  const hidden = await executor.forward({ ids });
  const states = hidden.read(0, ids.length).slice();
  hidden.close();
  await executor.close();
  return states;
}

// A router that chooses by sigmoid and shared experts; a gate on them; a norm with a bias; nothing beside experts.
describe.each(["deepseek_v3", "qwen2_moe", "phimoe", "mixtral"])("scales for what gate and up read: %s", (family) => {
  test("the model computes the same to the bit", async () => {
    const model = await openModel(goldenCheckpoint(family));
    const { checkpoint, description } = model;
    const random = createRandom(3);
    const tensors = new Map(checkpoint.tensors);
    for (const { layer, moe } of moeLayers(description)) {
      const scales = Float64Array.from({ length: description.hiddenSize }, () => 2 ** (random.below(9) - 4));
      const sources = rescaledTensors(checkpoint, description.layers[layer]!, moe, scales);
      for (const [e, expert] of moe.experts.entries()) {
        if (expert.gateUp.kind !== "separate") throw new Error("not separate");
        const matrices = await readExpert(checkpoint, expert, `expert ${e}`);
        for (const projection of ["gateProj", "upProj"] as const) {
          const { name, dtype, shape } = checkpoint.tensors.get(expert.gateUp[projection].weight.tensor)!;
          const values = matrices[projection].map((value, i) => value * scales[i % description.hiddenSize]!);
          sources.push(tensorFromBytes({ name, dtype, shape }, () => encodeFloats(values, dtype as WritableFloat)));
        }
      }
      const finish = () => Promise.resolve({ metrics: {}, notes: [] });
      const stages = new LayerStages(path.join(temporaryFolder(), "stage"));
      const { tensors: staged } = await stages.write(layer, {}, sources, finish, undefined);
      for (const [name, entry] of staged) tensors.set(name, entry);
    }
    expect(await finalStates(model, { ...checkpoint, tensors })).toEqual(await finalStates(model, checkpoint));
  });
});

/** A golden whose experts read every eighth channel sixteen times as loud, as trained models have such channels. */
async function withLoudChannels(family: string): Promise<string> {
  const directory = path.join(temporaryFolder(), "loud");
  cpSync(goldenCheckpoint(family), directory, { recursive: true });
  const file = path.join(directory, "model.safetensors");
  const { tensors } = await readSafetensorsFile(file);
  for (const [name, { dtype, shape, data }] of tensors) {
    if (!name.endsWith("post_attention_layernorm.weight")) continue;
    const louder = decodeFloats(data, dtype).map((value, c) => (c % 8 === 0 ? 16 * value : value));
    tensors.set(name, { dtype, shape, data: encodeFloats(louder, dtype as WritableFloat) });
  }
  await writeSafetensorsFile(file, tensors);
  return directory;
}

test("AWQ with them: less is lost, only what reads that input changes, and what is written is read back", async () => {
  const teacher = await openModel(await withLoudChannels("deepseek_v3"));
  const outcomes = [];
  for (const gateUp of [false, true]) {
    const options = { method: "awq" as const, options: { bits: 3, group: 8, gateUp }, keep: 1 };
    const context = await makeContext(teacher, temporaryFolder(), options, randomSequences(teacher));
    const plan = (await makePlan(context)) as QuantisationPlan;
    const layers = (await applyPlan(context, plan))!;
    const directory = path.join(temporaryFolder(), "quantised");
    const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };
    await writeCompressedCheckpoint({ ...context, plan, layers, directory, provenance });
    await checkWritten(context, plan, layers, directory);
    const [before, after] = [
      await tensorDigests(teacher.checkpoint),
      await tensorDigests((await openModel(directory)).checkpoint),
    ];
    const changed = [...before].filter(([name, digest]) => after.has(name) && after.get(name) !== digest);
    outcomes.push({ plan, layers, changed: changed.map(([name]) => name.replace(/^model\.layers\.\d+\./, "")) });
  }
  const [plain, scaled] = outcomes;
  expect(plain!.changed).toEqual([]);
  expect([...new Set(scaled!.changed)].sort()).toEqual([
    "mlp.gate.weight",
    "mlp.shared_experts.gate_proj.weight",
    "mlp.shared_experts.up_proj.weight",
    "post_attention_layernorm.weight",
  ]);
  expect(plain!.plan.notes!.join()).toContain("Routers, embedding, head and all but the routed experts keep");
  expect(scaled!.plan.notes!.join()).toContain("routers and shared experts change (gateUp)");
  const errors = outcomes.map(({ layers }) =>
    [...layers.values()].reduce(
      (sum, layer) => sum + (layer as { metrics: Record<string, number> }).metrics["outputError"]!,
      0,
    ),
  );
  expect(errors[1]).toBeLessThan(errors[0]!);
});

test.each([
  ["qwen3_next", true, "stores weight - 1"],
  ["cohere2_moe", true, "no norm of its own"],
  ["minimax_m3_vl_text", false, "up is clamped"],
])("%s has no place for AWQ's scales (gateUp %s): %s", async (family, gateUp, why) => {
  const teacher = await openModel(goldenCheckpoint(family));
  const options = { method: "awq" as const, options: { group: 8, gateUp } };
  const planned = makeContext(teacher, temporaryFolder(), options, null).then(makePlan);
  await expect(planned).rejects.toMatchObject({
    code: "model/unsupported-option",
    message: expect.stringContaining(why) as string,
  });
});

test.each([
  ["F16", undefined],
  ["F8_E4M3", undefined],
  ["BF16", { kind: "scaled" }],
])("a router in %s (%j) is not multiplied: that would round", async (dtype, quantisation) => {
  const { description } = await openModel(goldenCheckpoint("mixtral"));
  const { layer, moe } = moeLayers(description)[0]!;
  const weight = { ...moe.router.weight, dtype, ...(quantisation && { quantisation }) };
  const changed = { ...moe, router: { ...moe.router, weight } } as typeof moe;
  expect(() => inputPlace(description.layers[layer]!, changed)).toThrow(/multiplied without rounding/);
});
