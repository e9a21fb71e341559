import path from "node:path";
import { describe, expect, test } from "vitest";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { compressOptions } from "../../../src/protocol/recipe";
import { engineVersion } from "../../../src/protocol/version";
import type { PruningPlan } from "../../../src/protocol/plan";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { examineProvider, graphsOfModel } from "../../../src/engine/execution/providerCheck";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import type { OpenModel } from "../../../src/engine/run/work";
import { compareNodes } from "../../../src/engine/runtime/compareNodes";
import { goldenCases, readGoldenFile, relativeToLargest, type GoldenCase } from "../../support/goldens";
import { isNightly } from "../../support/nightly";
import { useSoftwareVulkan } from "../../support/softwareVulkan";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeStudentOf } from "../../support/tinyModels";

/** WebGPU on a driver that computes on the processor: skipped where Debian's chromium-common and libvulkan1 are not installed. */
const here = useSoftwareVulkan();
/** Shaders are compiled for the processor: half a minute of its time for a model. */
const runtime = (provider: "cpu" | "webgpu") => ({ threads: 1, provider, memoryBudgetBytes: 2e9 }) as const;

test.runIf(here)("every node of a model's forward pass, loss and backward pass is the CPU's", async () => {
  const { wrong, speed } = await examineProvider("webgpu");
  expect(wrong).toBe(null);
  expect(speed).toBeGreaterThan(0);
});

/** By night: the graphs are those of the test above, and compiling their shaders a second time is what it costs. */
test.runIf(here && isNightly)("the sample's profile, REAP plan and calibrated routers are the CPU's", async () => {
  const teacher = await openModel(path.resolve("media/sample/checkpoint"));
  const text = randomSequences(1, 1, 24, { vocabSize: teacher.description.vocabSize });
  const [cpu, gpu] = [await planOf(teacher, text, "cpu"), await planOf(teacher, text, "webgpu")];
  expect(gpu).toEqual(cpu);
  const student = await pruned(teacher, cpu);
  const routers = async (provider: "cpu" | "webgpu") => {
    const options = calibrateOptions.parse({ batch: 1, learningRate: 1e-3, keepStep: "last" });
    const common = { student, teacher, training: text, heldOut: null, options, seed: 42, runtime: runtime(provider) };
    return calibrate({ ...common, stateDirectory: temporaryFolder(), onMetrics: () => undefined });
  };
  const [expected, actual] = [await routers("cpu"), await routers("webgpu")];
  for (const [key, values] of expected.parameters) {
    expect(relativeToLargest(actual.parameters.get(key)!, values), key).toBeLessThan(1e-3);
  }
});

/** Every family, by night: logits, routing, loss and router gradients, and every node of every graph. */
describe.runIf(here && isNightly).each(goldenCases())("$name on WebGPU", (golden) => {
  test("gives what the CPU gives, node by node and as a whole", async () => {
    const model = await openModel(golden.checkpoint);
    const student = await studentOf(golden, model);
    const ids = (await readGoldenFile(golden.golden)).get("input_ids")!;
    const [batch, positions] = ids.shape as [number, number];
    const tokens = { inputIds: Int32Array.from(ids.values), batch, positions };
    const scratchDirectory = temporaryFolder();
    for (const { graph, feeds } of await graphsOfModel(student, model, tokens, scratchDirectory)) {
      expect(await compareNodes(graph, feeds, runtime("webgpu"))).toEqual([]);
    }
    const probe = (provider: "cpu" | "webgpu") =>
      runForwardProbe({ model: student, teacher: model, ...tokens, runtime: runtime(provider), scratchDirectory });
    const [expected, actual] = [await probe("cpu"), await probe("webgpu")];
    for (const [name, { data }] of expected) {
      const found = actual.get(name)!.data;
      if (!(data instanceof Float32Array)) expect(found, name).toEqual(data);
      else if (name === "kd_loss") expect(Math.abs((found as Float32Array)[0]! - data[0]!)).toBeLessThan(1e-5);
      else expect(relativeToLargest(found as Float32Array, data), name).toBeLessThan(1e-4);
    }
  });
});

async function planOf(teacher: OpenModel, sequences: TokenSequences, provider: "cpu" | "webgpu"): Promise<PruningPlan> {
  const { checkpoint, description } = teacher;
  const observer = new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: true });
  await profileCheckpoint({
    ...{ checkpoint, description, sequences, observer, collectOutputs: true, runtime: runtime(provider) },
    scratchDirectory: temporaryFolder(),
  });
  const options = compressOptions.parse({ method: "reap", keep: 0.375 });
  const request = { description, fingerprint: "", options, seed: 42, statistics: observer.result() };
  const { layers } = makePruningPlan({ ...request, weightScores: null });
  return { schemaVersion: 1, paradigm: "pruning", method: "manual", layers: kept(layers) };
}

/** What stays; scores differ in their last digits. */
function kept(layers: PruningPlan["layers"]): PruningPlan["layers"] {
  return Object.fromEntries(Object.entries(layers).map(([layer, one]) => [layer, { kept: one.kept }]));
}

async function pruned(teacher: OpenModel, plan: PruningPlan): Promise<OpenModel> {
  const directory = path.join(temporaryFolder(), "student");
  const provenance = { reroute: engineVersion, recipe: null, seed: 42, versions: {}, metrics: {} };
  await writeCompressedCheckpoint({ ...teacher, plan, directory, provenance });
  return openModel(directory);
}

/** The golden's student; the model itself where it has none. */
async function studentOf(golden: GoldenCase, model: OpenModel): Promise<OpenModel> {
  const numbers = await readGoldenFile(golden.golden);
  return numbers.has("kd_loss") ? writeStudentOf(golden, path.join(temporaryFolder(), "student")) : model;
}
