import { readFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { TensorEntry } from "../../../src/engine/checkpoint/checkpoint";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { completeOutput } from "../../../src/engine/checkpoint/outputFolder";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { families } from "../../../src/engine/model/families/index";
import { liveWork } from "../../../src/engine/run/liveWork";
import type { OpenModel } from "../../../src/engine/run/work";
import type { PruningPlan } from "../../../src/protocol/plan";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { goldenCheckpoint, readGolden, relativeToLargest } from "../../support/goldens";
import { awqPacked, eightBits, gptqPacked, packQuantized } from "../../support/packedLayouts";
import { writeFloat8, writeFused, writeMxfp4, writePacked } from "../../support/otherLayouts";
import { isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const provenance = { reroute: "0", recipe: null, seed: 42, versions: {}, metrics: {} };
const folder = temporaryFolder();
let written = 0;

async function planOf(family: string): Promise<PruningPlan> {
  const golden = await readGolden(family);
  const kept = [...golden].filter(([name]) => name.startsWith("kept."));
  return {
    schemaVersion: 1,
    paradigm: "pruning",
    method: "manual",
    layers: Object.fromEntries(kept.map(([name, { values }]) => [name.slice("kept.".length), { kept: values }])),
  };
}

async function prune(model: OpenModel, plan: PruningPlan, maxShardBytes?: number): Promise<OpenModel> {
  const directory = path.join(folder, `pruned-${written++}`);
  const sharding = maxShardBytes === undefined ? {} : { maxShardBytes };
  await writeCompressedCheckpoint({ ...model, plan, directory, provenance, ...sharding });
  return openModel(directory);
}

/** Stored bytes of a tensor; every shard is read once. */
function bytesOf(entry: TensorEntry | undefined): Buffer {
  const { shard, byteOffset, byteLength } = entry!;
  const whole = files.get(shard.realPath) ?? readFileSync(shard.realPath);
  files.set(shard.realPath, whole);
  return whole.subarray(byteOffset, byteOffset + byteLength);
}
const files = new Map<string, Buffer>();

/** Entries `kept` of the first axis, cut out of the tensor's bytes. */
function sliced(entry: TensorEntry, kept: readonly number[]): Buffer {
  const bytes = bytesOf(entry);
  const size = bytes.length / entry.shape[0]!;
  return Buffer.concat(kept.map((e) => bytes.subarray(e * size, (e + 1) * size)));
}

/** Every tensor of a pruned checkpoint is a slice of the original's, a renamed expert's, or the same bytes. */
function expectSliced(model: OpenModel, plan: PruningPlan, student: OpenModel): void {
  const layers = moeLayers(model.description);
  const unseen = new Set(student.checkpoint.tensors.keys());
  for (const [name, entry] of model.checkpoint.tensors) {
    const layer = layers.find(
      ({ layer: number }) =>
        /^(?:language_model\.)?model\.(?:language_model\.)?layers\.(\d+)\./.exec(name)?.[1] === String(number),
    );
    const kept = layer && plan.layers[String(layer.layer)]!.kept;
    const same = student.checkpoint.tensors.get(name);
    const expert = layer?.moe.storage.kind === "per-expert" ? expertOf(name, layer.moe.storage.prefix) : null;
    if (layer && kept && expert) {
      const position = kept.indexOf(expert.id);
      if (position < 0) continue;
      const renamed = `${expert.prefix}${position}${expert.suffix}`;
      expect(bytesOf(student.checkpoint.tensors.get(renamed)).equals(bytesOf(entry)), renamed).toBe(true);
      unseen.delete(renamed);
    } else if (layer && kept && same!.shape.join() !== entry.shape.join()) {
      // ERNIE's correction bias has its experts on the second axis of [1, experts].
      const onFirst = entry.shape[0] === 1 ? { ...entry, shape: entry.shape.slice(1) } : entry;
      expect(onFirst.shape[0], name).toBe(layer.moe.numExperts);
      expect(same!.shape, name).toEqual(entry.shape.map((n, axis) => (n === same!.shape[axis] ? n : kept.length)));
      expect(bytesOf(same).equals(sliced(onFirst, kept)), name).toBe(true);
      unseen.delete(name);
    } else {
      expect(same?.dtype, name).toBe(entry.dtype);
      expect(bytesOf(same).equals(bytesOf(entry)), name).toBe(true);
      unseen.delete(name);
    }
  }
  expect([...unseen]).toEqual([]);
}

function expertOf(name: string, prefix: string): { id: number; prefix: string; suffix: string } | null {
  const match = name.startsWith(prefix) ? /^(\d+)(\..+)$/.exec(name.slice(prefix.length)) : null;
  return match ? { id: Number(match[1]), prefix, suffix: match[2]! } : null;
}

function expectSameTensors(a: OpenModel, b: OpenModel): void {
  expect([...b.checkpoint.tensors.keys()].sort()).toEqual([...a.checkpoint.tensors.keys()].sort());
  for (const [name, entry] of a.checkpoint.tensors) {
    const other = b.checkpoint.tensors.get(name)!;
    expect([other.dtype, other.shape], name).toEqual([entry.dtype, entry.shape]);
    expect(bytesOf(other).equals(bytesOf(entry)), name).toBe(true);
  }
}

function probe(model: OpenModel, teacher: OpenModel | null) {
  const sequences = randomSequences(9, 3, 10, { vocabSize: model.description.vocabSize });
  return runForwardProbe({
    model,
    teacher,
    inputIds: sequences.ids,
    batch: 3,
    positions: 10,
    runtime,
    scratchDirectory: folder,
  });
}

const values = (results: Awaited<ReturnType<typeof probe>>, name: string) => results.get(name)!.data as Float32Array;

/** Rows of the family table whose golden is fused; all others are fused here as well. */
const fusedOnDisk = [
  ...["granitemoe", "granitemoeshared", "gpt_oss", "llama4_text", "llama4", "gemma4_text", "gemma4", "mistral4"],
  ...["minimax_m3_vl_text", "qwen3_vl_moe"],
];

/** Kinds of routers and experts; attention and names are the same in both places, and run for every family by night. */
const computedDaily = ["mixtral", "qwen3_moe", "deepseek_v3", "ernie4_5_moe", "qwen2_moe", "minimax_m2", "phimoe"];

describe.each([...families.keys()])("%s, pruned by hand", (family) => {
  let released: OpenModel;
  let plan: PruningPlan;
  let student: OpenModel;
  beforeAll(async () => {
    released = await openModel(goldenCheckpoint(family));
    plan = await planOf(family);
    student = await prune(released, plan);
  });
  const storageOf = ({ description }: OpenModel) => moeLayers(description)[0]!.moe.storage.kind;

  test("as released: equal to slicing, in one file and in shards", async () => {
    expect(storageOf(released)).toBe(fusedOnDisk.includes(family) ? "fused" : "per-expert");
    expectSliced(released, plan, student);
    const sharded = await prune(released, plan, 40_000);
    expect(sharded.checkpoint.shards.length).toBeGreaterThan(2);
    expectSameTensors(student, sharded);
  });

  test.skipIf(fusedOnDisk.includes(family))(
    "fused: equal to slicing, and to the bit what is stored apart",
    async () => {
      const model = await writeFused(family, path.join(folder, `fused-${family}`));
      expect(storageOf(model)).toBe("fused");
      const fused = await prune(model, plan);
      expectSliced(model, plan, fused);
      // Another place for the same numbers.
      if (!isNightly && !computedDaily.includes(family)) return;
      const [a, b] = [await probe(fused, null), await probe(student, null)];
      expect(values(a, "logits")).toEqual(values(b, "logits"));
    },
  );
});

interface Quantised {
  title: string;
  family: string;
  make: (to: string) => Promise<{ quantised: OpenModel; plain: OpenModel }>;
  /** A tensor of scales of the first kept expert, and the expert it was. */
  scales: (position: number) => string;
}

const quantised: Quantised[] = [
  {
    title: "deepseek_v3 in F8_E4M3 with block scales",
    family: "deepseek_v3",
    // 16 x 10 leaves cut blocks at the edges of 24 x 32.
    make: (to) => writeFloat8("deepseek_v3", to, { rows: 16, columns: 10 }),
    scales: (e) => `model.layers.1.mlp.experts.${e}.up_proj.weight_scale_inv`,
  },
  {
    title: "glm4_moe in F8_E4M3 with block scales",
    family: "glm4_moe",
    make: (to) => writeFloat8("glm4_moe", to, { rows: 8, columns: 16 }),
    scales: (e) => `model.layers.1.mlp.experts.${e}.down_proj.weight_scale_inv`,
  },
  {
    title: "gpt_oss in MXFP4",
    family: "gpt_oss",
    make: writeMxfp4,
    scales: () => "model.layers.1.mlp.experts.down_proj_scales",
  },
  {
    title: "qwen3_moe in packed integers of 4 bits",
    family: "qwen3_moe",
    make: (to) => writePacked("qwen3_moe", to, packQuantized(4, 8)),
    scales: (e) => `model.layers.1.mlp.experts.${e}.down_proj.weight_scale`,
  },
  {
    title: "glm4_moe in F8_E4M3 with a scale a row",
    family: "glm4_moe",
    make: (to) => writePacked("glm4_moe", to, eightBits("float", "channel")),
    scales: (e) => `model.layers.1.mlp.experts.${e}.up_proj.weight_scale`,
  },
  {
    title: "mixtral by GPTQ",
    family: "mixtral",
    make: (to) => writePacked("mixtral", to, gptqPacked(4, 8, 1)),
    scales: (e) => `model.layers.1.block_sparse_moe.experts.${e}.w2.qzeros`,
  },
  {
    title: "olmoe by AWQ",
    family: "olmoe",
    make: (to) => writePacked("olmoe", to, awqPacked(8)),
    scales: (e) => `model.layers.1.mlp.experts.${e}.gate_proj.scales`,
  },
];

describe.each(quantised)("$title", ({ title, family, make, scales }) => {
  let model: OpenModel;
  let plain: OpenModel;
  let plan: PruningPlan;
  let student: OpenModel;
  let plainStudent: OpenModel;
  beforeAll(async () => {
    ({ quantised: model, plain } = await make(
      path.join(folder, `quantised-${quantised.findIndex((row) => row.title === title)}`),
    ));
    plan = await planOf(family);
    student = await prune(model, plan);
    plainStudent = await prune(plain, plan);
  });

  test("computes what the same model in F32 computes: logits, routing, loss and router gradients", async () => {
    const [a, b] = [await probe(student, model), await probe(plainStudent, plain)];
    expect([...a.keys()]).toEqual([...b.keys()]);
    let compared = 0;
    for (const [name, { dtype }] of b) {
      if (dtype === "I64") {
        expect(a.get(name)!.data, name).toEqual(b.get(name)!.data);
        continue;
      }
      expect(relativeToLargest(values(a, name), values(b, name)), name).toBeLessThan(1e-5);
      compared++;
    }
    expect(compared).toBeGreaterThan(5);
    const [teacherLogits, plainLogits] = [await probe(model, null), await probe(plain, null)];
    expect(relativeToLargest(values(teacherLogits, "logits"), values(plainLogits, "logits"))).toBeLessThan(1e-5);
  });

  test("is pruned without decoding: codes and scales are slices of the original's bytes", async () => {
    expectSliced(model, plan, student);
    expectSameTensors(student, await prune(model, plan, 40_000));
    const { kept } = plan.layers["1"]!;
    const [before, after] = [model, student].map(
      ({ checkpoint }) =>
        (e: number) =>
          checkpoint.tensors.get(scales(e))!,
    );
    if (scales(0) === scales(1)) expect(bytesOf(after!(0))).toEqual(sliced(before!(0), kept));
    else expect(bytesOf(after!(0))).toEqual(bytesOf(before!(kept[0]!)));
  });

  test("is calibrated: one update moves the routers as in F32, written as BF16, and nothing else", async () => {
    const training = randomSequences(4, 4, 10);
    const options = calibrateOptions.parse({
      batch: 4,
      learningRate: 1e-2,
      warmup: 0,
      evaluateEvery: 1,
      keepStep: "last",
    });
    const common = { training, heldOut: null, options, seed: 42, runtime, onMetrics: () => undefined };
    const [moved, expected] = [
      await calibrate({ ...common, student, teacher: model, stateDirectory: temporaryFolder() }),
      await calibrate({ ...common, student: plainStudent, teacher: plain, stateDirectory: temporaryFolder() }),
    ];
    for (const [name, numbers] of expected.parameters) {
      expect(relativeToLargest(moved.parameters.get(name)!, numbers), name).toBeLessThan(1e-3);
    }
    const directory = path.join(folder, `calibrated-${quantised.findIndex((row) => row.title === title)}`);
    await liveWork.calibrate({
      ...common,
      student,
      teacher: model,
      stateDirectory: temporaryFolder(),
      signal: new AbortController().signal,
      report: () => undefined,
      output: {
        directory,
        runId: "test",
        provenance: { schemaVersion: 1, plan, reroute: "0", recipe: null, seed: 42, versions: {} },
      },
    });
    await completeOutput(directory);
    const result = await openModel(directory);
    const [before, after] = [await tensorDigests(student.checkpoint), await tensorDigests(result.checkpoint)];
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort());
    const changed = [...before].filter(([name, digest]) => after.get(name) !== digest).map(([name]) => name);
    const routers = moeLayers(student.description).map(({ moe }) => moe.router.weight.tensor);
    expect(changed.sort()).toEqual(routers.sort());
    for (const name of routers) expect(result.checkpoint.tensors.get(name)!.dtype).toBe("BF16");
  });
});
