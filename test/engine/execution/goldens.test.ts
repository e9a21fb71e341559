import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MemoryTensor } from "../../../src/engine/checkpoint/safetensorsFile";
import { fingerprintCheckpoint } from "../../../src/engine/checkpoint/fingerprint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { writeCompressedCheckpoint } from "../../../src/engine/compression/writeCompressed";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import { runForwardProbe, type ProbeModel } from "../../../src/engine/execution/probe";
import { profileCheckpoint } from "../../../src/engine/execution/profile";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import { overDomains } from "../../../src/engine/routing/layerStatistics";
import { engineVersion } from "../../../src/protocol/version";
import { isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import {
  copyInReleasedStyle,
  goldenCases,
  otherGoldens,
  readGoldenFile,
  relativeToLargest,
  type Golden,
} from "../../support/goldens";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

test("every supported family has a golden checkpoint, and every golden or variant is a supported family's", () => {
  const goldens = goldenCases().filter(({ name, family }) => name === family);
  expect(goldens.map(({ family }) => family).sort()).toEqual([...families.keys()].sort());
  expect(goldenCases().filter(({ family }) => !families.has(family))).toEqual([]);
});

/** GOLDENS names a folder with more of them, made by the scripts beside the fixtures with other shapes and seeds. */
const cases = [...goldenCases(), ...otherGoldens(process.env["GOLDENS"])];

/** Every checkpoint against transformers; a new family's row, or a new variant's, appears by itself. */
describe.each(cases)("$name agrees with transformers", (golden) => {
  const folder = temporaryFolder();
  let numbers: Golden;
  let model: Awaited<ReturnType<typeof open>>;
  let forward: Map<string, MemoryTensor>;

  beforeAll(async () => {
    numbers = await readGoldenFile(golden.golden);
    model = await open(golden.checkpoint);
    forward = await probe(model, null, numbers);
  });
  afterAll(() => {
    if (process.env["SHOW_ERRORS"] !== undefined) console.log(golden.name, Object.fromEntries(worst.get(golden.name)!));
  });

  const close = (name: string, actual: ArrayLike<number>, tolerance: number, kind = name.split(".")[0]!) => {
    const error = relativeToLargest(actual, numbers.get(name)!.values);
    const errors = worst.get(golden.name) ?? new Map<string, number>();
    worst.set(golden.name, errors.set(kind, Math.max(error, errors.get(kind) ?? 0)));
    expect(error, name).toBeLessThan(tolerance);
  };
  const layers = () => layersOf(numbers, "router_logits");

  test("logits, router logits, selected experts and routing weights", () => {
    close("logits", floatsOf(forward, "logits"), 2e-4);
    expect(layers().length).toBeGreaterThan(0);
    for (const layer of layers()) {
      close(`router_logits.${layer}`, floatsOf(forward, `router_logits.${layer}`), 2e-4);
      const selected = Array.from(forward.get(`topk_ids.${layer}`)!.data as BigInt64Array, Number);
      expect(selected, `topk_ids.${layer}`).toEqual(numbers.get(`topk_ids.${layer}`)!.values);
      close(`topk_weights.${layer}`, floatsOf(forward, `topk_weights.${layer}`), 2e-4);
    }
  });

  test("a config in released style gives the same numbers", async () => {
    const released = path.join(folder, "released");
    copyInReleasedStyle(golden.checkpoint, released);
    const opened = await open(released);
    // What is computed follows from the description and the same tensors.
    expect(opened.description).toEqual(model.description);
    if (!isNightly) return;
    const again = await probe(opened, null, numbers);
    expect([...again.keys()]).toEqual([...forward.keys()]);
    for (const [name, { data }] of again) expect(data, name).toEqual(forward.get(name)!.data);
  });

  test("REAP scores and expert frequencies", async () => {
    const sequences = sequencesOf(numbers);
    const { checkpoint, description } = model;
    const statistics = new RoutingStatistics({
      checkpoint: checkpoint.directory,
      fingerprint: "",
      sequences,
      renormalises: false,
    });
    await profileCheckpoint({
      checkpoint,
      description,
      sequences,
      observer: statistics,
      collectOutputs: true,
      runtime,
      scratchDirectory: folder,
    });
    const profiled = statistics.result().layers;
    expect(profiled.map(({ layer }) => layer)).toEqual(layers());
    for (const layer of profiled) {
      const frequency = overDomains(layer, "frequency");
      expect(Array.from(frequency), `frequency.${layer.layer}`).toEqual(
        numbers.get(`frequency.${layer.layer}`)!.values,
      );
      const reap = overDomains(layer, "weightedNormSum").map((sum, e) => sum / Math.max(1, frequency[e]!));
      close(`reap.${layer.layer}`, reap, 2e-4);
    }
  });

  test("the pruned student's logits, the distillation loss and the routers' gradients", async () => {
    // Where top-k is all experts, none can go: such a variant has no student.
    if (!numbers.has("kd_loss")) {
      const isWhole = layersOf(numbers, "topk_ids").every((layer) => {
        const experts = numbers.get(`reap.${layer}`)!.shape[0];
        return numbers.get(`topk_ids.${layer}`)!.shape[1] === experts;
      });
      expect(isWhole).toBe(true);
      return;
    }
    const directory = path.join(folder, "student");
    const kept = layers().map((layer) => [String(layer), { kept: numbers.get(`kept.${layer}`)!.values }] as const);
    await writeCompressedCheckpoint({
      ...model,
      fingerprint: await fingerprintCheckpoint(model.checkpoint),
      plan: { schemaVersion: 1, paradigm: "pruning", method: "manual", layers: Object.fromEntries(kept) },
      directory,
      provenance: { reroute: engineVersion, recipe: null, seed: 42, versions: {}, metrics: {} },
    });
    const results = await probe(await open(directory), model, numbers);
    close("student_logits", floatsOf(results, "logits"), 2e-4);
    close("kd_loss", floatsOf(results, "kd_loss"), 1e-3);
    for (const layer of layersOf(numbers, "kd_grad")) {
      const name = `kd_grad.${layer}`;
      const { values, shape } = numbers.get(name)!;
      expect(results.get(name)!.shape).toEqual(shape);
      // With one expert a token whose weight is renormalised to 1 there is no gradient, only PyTorch's rounding.
      if (Math.max(...values.map(Math.abs)) > 1e-7) close(name, floatsOf(results, name), 2e-3);
      else for (const value of floatsOf(results, name)) expect(Math.abs(value)).toBeLessThan(1e-7);
    }
  });
});

const worst = new Map<string, Map<string, number>>();

async function open(directory: string) {
  const checkpoint = await openCheckpoint(directory);
  return { checkpoint, ...describeModel(checkpoint) };
}

function probe(model: ProbeModel, teacher: ProbeModel | null, numbers: Golden): Promise<Map<string, MemoryTensor>> {
  const ids = numbers.get("input_ids")!;
  const [batch, positions] = ids.shape as [number, number];
  const inputIds = Int32Array.from(ids.values);
  return runForwardProbe({ model, teacher, inputIds, batch, positions, runtime, scratchDirectory: temporaryFolder() });
}

function floatsOf(results: ReadonlyMap<string, MemoryTensor>, name: string): Float32Array {
  return results.get(name)!.data as Float32Array;
}

function layersOf(numbers: Golden, prefix: string): number[] {
  return [...numbers.keys()]
    .filter((name) => name.startsWith(`${prefix}.`))
    .map((name) => Number(name.split(".")[1]))
    .sort((a, b) => a - b);
}

function sequencesOf(numbers: Golden): TokenSequences {
  const { shape, values } = numbers.get("input_ids")!;
  const [numSequences, sequenceLength] = shape as [number, number];
  return {
    ids: Int32Array.from(values),
    numSequences,
    sequenceLength,
    lengths: new Int32Array(numSequences).fill(sequenceLength),
    domainIds: new Uint8Array(values.length),
    domainNames: ["text"],
    sourceSha256: "",
  };
}
