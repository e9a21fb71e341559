import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { readRecipe } from "../../src/cli/commands/run";
import { openCheckpoint } from "../../src/engine/checkpoint/open";
import { moeLayers } from "../../src/engine/model/moeLayers";
import { parsePlan, validatePlan } from "../../src/engine/compression/plan/validatePlan";
import { loadState, saveState, initialState } from "../../src/engine/distillation/trainState";
import type { TokenSequences } from "../../src/engine/data/sequences";
import { studentState } from "../../src/engine/evaluation/evaluationState";
import { PassMeter } from "../../src/engine/evaluation/passMeter";
import { RouterTrace } from "../../src/engine/evaluation/routerTrace";
import { MemoryHiddenStates } from "../../src/engine/execution/hiddenStates";
import { planExecution, smallestBudget } from "../../src/engine/execution/memoryPlan";
import { describeModel } from "../../src/engine/model/families";
import { summariseCheckpoint } from "../../src/engine/model/inspect";
import { writeComparisonReport } from "../../src/engine/report/comparisonReport";
import { listRuns } from "../../src/engine/report/panels";
import { writeReport } from "../../src/engine/report/writeReport";
import { RoutingStatistics } from "../../src/engine/routing/collect";
import { profileSums } from "../../src/engine/routing/profileSums";
import { loadRoutingStatistics, saveRoutingStatistics } from "../../src/engine/routing/statisticsFile";
import { cellsOf } from "../../src/engine/run/compare/cells";
import { readComparisonRecipe } from "../../src/engine/run/compare/comparisonFolder";
import { isHeld, lockRunFolder } from "../../src/engine/run/folder/lock";
import { readMetrics, rewindMetrics } from "../../src/engine/run/folder/metricsFile";
import { readRun } from "../../src/engine/run/folder/runFolder";
import { checkpointSize, plannedSize } from "../../src/engine/compression/plannedSize";
import { readProvenance } from "../../src/engine/run/stages/outputs";
import { stageTable } from "../../src/engine/run/stages";
import { startRun } from "../../src/engine/run/startRun";
import type { Random } from "../../src/engine/tensor/random";
import { recipeSchema } from "../../src/protocol/recipe";
import { fakeWork } from "../engine/run/fakeWork";
import { goldenCheckpoint } from "../support/goldens";
import { temporaryFolder } from "../support/temporaryFolder";
import { openModel } from "../support/tinyModels";
import { casesOf, runCases, type FuzzKind } from "./cases";
import { mutateBytes, mutateJson } from "./mutate";

const folder = temporaryFolder();
const at = (name: string) => path.join(folder, name);
const runDirectory = at("run");
const teacher = goldenCheckpoint("qwen3_moe");
/** What the mutations start from, by name. */
const originals = new Map<string, Buffer>();
let model: Awaited<ReturnType<typeof openModel>>;

beforeAll(async () => {
  model = await openModel(teacher);
  // A complete run folder, made without a model's arithmetic.
  cpSync("media/sample/checkpoint", at("teacher"), { recursive: true });
  const recipe = {
    schemaVersion: 1,
    name: "fuzzed",
    teacher: "teacher",
    data: {
      calibration: "text.txt",
      evaluation: "held-out.txt",
      sequences: 4,
      evaluationSequences: 4,
      sequenceLength: 16,
    },
    compress: { keep: 0.5 },
    calibrate: { heldOut: 0.25 },
    output: "out",
  };
  writeFileSync(at("text.txt"), "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(40));
  writeFileSync(
    at("held-out.txt"),
    "AND NOW FOR SOMETHING ELSE ALTOGETHER, WHICH NOBODY HAS READ BEFORE US ".repeat(40),
  );
  const machinery = { stages: stageTable(writeReport), work: fakeWork() };
  const request = { runDirectory, recipe: recipeSchema.parse(recipe), baseFolder: folder };
  await startRun(machinery, request, { signal: new AbortController().signal });

  await saveState(at("state"), initialState("hash", new Map([["router", Float32Array.of(1, 2, 3)]])));
  const collected = newStatistics();
  for (const { layer, moe } of moeLayers(model.description)) collected.observe(observation(layer, moe));
  const sums = profileSums(at("profile-state"), collected, model.description);
  await sums.save("key", { shard: 1, layers: 2 });
  const mapping = Object.fromEntries(
    [...model.checkpoint.tensors.keys()].map((name, i) => [name, `model-${i % 3}.safetensors`]),
  );
  const plan = {
    schemaVersion: 1,
    paradigm: "pruning",
    method: "manual",
    layers: Object.fromEntries(moeLayers(model.description).map(({ layer }) => [layer, { kept: [0, 1, 2, 5] }])),
  };
  const comparison = {
    schemaVersion: 1,
    teacher: "teacher",
    data: {
      calibration: "text.txt",
      evaluation: "held-out.txt",
      sequences: 4,
      evaluationSequences: 4,
      sequenceLength: 16,
    },
    grid: { methods: ["reap", "frequency", "hc-smoe"], keep: [0.5, 4] },
    methodOptions: { "hc-smoe": { router: "map" } },
    calibrate: { epochs: 1 },
  };
  const numbers = { mean: 0.2, halfWidth95: 0.1 };
  const measured = {
    ...{ parametersTotal: 10, parametersActive: 5, bytes: 20, klToTeacher: null, nllPerToken: numbers },
    ...{ top1Agreement: 0.5, tokensPerSecond: 10, peakMemoryBytes: 100 },
  };
  const cell = { id: "reap-0.5", method: "reap", keep: 0.5, state: "done", error: null, before: measured, seconds: 3 };
  const noVerdict = { after: null, verdict: null, gain: null, gainInterval95: null, recoveredShare: null };
  const compared = {
    ...{ schemaVersion: 1, name: "fuzzed", reroute: "0", recipe: comparison, baseFolder: folder, teacher: measured },
    cells: [{ ...cell, ...noVerdict }],
  };
  const inRun = (name: string) => readFileSync(path.join(runDirectory, name));
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const header = readFileSync(path.join(teacher, "model.safetensors"));
  const headerEnd = 8 + Number(header.readBigUInt64LE(0));
  const all: Record<string, Buffer> = {
    recipe: json(recipe),
    plan: json(plan),
    config: readFileSync(path.join(teacher, "config.json")),
    index: json({ metadata: { total_size: 8 }, weight_map: mapping }),
    header: header.subarray(0, headerEnd),
    weights: header.subarray(headerEnd),
    state: readFileSync(at("state")),
    "profile-state": readFileSync(at("profile-state")),
    "evaluation-state": await evaluationState(),
    statistics: inRun("routing-statistics.safetensors"),
    run: inRun("run.json"),
    evaluation: inRun("evaluation.json"),
    metrics: inRun("metrics.jsonl"),
    provenance: readFileSync(at("out/reroute.json")),
    comparison: json(comparison),
    "comparison-state": json(compared),
    lock: json({ pid: 4_000_000, host: "elsewhere", processStart: "12" }),
  };
  for (const [name, bytes] of Object.entries(all)) originals.set(name, Buffer.from(bytes));
});

/** A student's interrupted pass: the fuzzed model against itself, on eight tokens of which each layer saw all. */
function studentPass() {
  const trace = new RouterTrace(8, at("mutated"), true);
  const moes = moeLayers(model.description);
  for (const { layer, moe } of moes) trace.observe(observation(layer, moe));
  const mapping = new Map(moes.map(({ layer, moe }) => [layer, Array.from({ length: moe.numExperts }, (_, e) => [e])]));
  const compared = trace.compareWith(mapping, undefined, 8);
  const lengths = Int32Array.of(8);
  const ids = new Int32Array(8);
  const sequences = { ids, lengths, sequenceLength: 8, numSequences: 1 } as TokenSequences;
  const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1 } as const;
  const plan = planExecution(model.description, 8, 1e9, "forward");
  const pass = { sequences, runtime, plan, description: model.description, expertMapping: null };
  const resume = { directory: at("mutated"), model: "a", teacher: "b", saveEverySeconds: 0 };
  return { compared, moes, state: studentState(resume, pass, compared, new PassMeter(() => 1, 8)) };
}

async function evaluationState(): Promise<Buffer> {
  mkdirSync(at("mutated"));
  const { compared, moes, state } = studentPass();
  for (const { layer, moe } of moes) compared.observe(observation(layer, moe));
  await state.save(
    { shard: 0, layers: model.description.layers.length },
    new MemoryHiddenStates(8, model.description.hiddenSize),
  );
  return readFileSync(at("mutated/evaluation-student-state.json"));
}

/** Statistics of the fuzzed model over some text, empty. */
function newStatistics(): RoutingStatistics {
  const sequences = {
    lengths: Int32Array.of(4),
    sequenceLength: 4,
    domainIds: new Uint8Array(4),
    domainNames: ["text"],
  };
  return new RoutingStatistics({ checkpoint: teacher, fingerprint: "f", sequences, renormalises: true });
}

/** One token, routed to the first experts. */
function observation(
  layer: number,
  { numExperts, numExpertsPerToken }: { numExperts: number; numExpertsPerToken: number },
) {
  const { hiddenSize } = model.description;
  const selectedIds = Int32Array.from({ length: numExpertsPerToken }, (_, i) => i);
  const routingWeights = new Float32Array(numExpertsPerToken).fill(0.5);
  const sizes = { numTokens: 1, numRouterRows: numExperts, numExperts, numExpertsPerToken, hiddenSize, firstToken: 0 };
  return { layer, ...sizes, routerLogits: new Float32Array(numExperts), selectedIds, routingWeights, outputs: null };
}

/** Half of the cases change bytes, the other half values, which get past the parser. */
const jsonCase = (name: string) => (random: Random) =>
  random.below(2) === 0
    ? mutateBytes(originals.get(name)!, random)
    : Buffer.from(JSON.stringify(mutateJson(JSON.parse(originals.get(name)!.toString()), random)) ?? "");
const bytesCase = (name: string) => (random: Random) => mutateBytes(originals.get(name)!, random);

/** Bytes become a file of this name; gives its path. */
function asFile(name: string, bytes: Uint8Array): string {
  const file = path.join(at("mutated"), name);
  writeFileSync(file, bytes);
  return file;
}

/** A file of a complete run, for the time of `read`. */
async function inRun(name: string, bytes: Uint8Array, read: () => Promise<unknown>): Promise<void> {
  const file = path.join(runDirectory, name);
  const whole = readFileSync(file);
  writeFileSync(file, bytes);
  try {
    await read();
  } finally {
    writeFileSync(file, whole);
  }
}

/** Everything that is said about a checkpoint before its weights are read. */
async function inspectFolder(directory: string): Promise<void> {
  const checkpoint = await openCheckpoint(directory);
  for (const { shard } of checkpoint.tensors.values()) {
    if (!shard.realPath.startsWith(folder)) throw new Error(`reads ${shard.realPath}, outside the checkpoint`);
  }
  await summariseCheckpoint(checkpoint);
  const { description } = describeModel(checkpoint);
  const numbers = [
    checkpointSize(checkpoint).bytes,
    smallestBudget(description, 512, "backward"),
    ...Object.values(planExecution(description, 512, 1e9, "forward")).map(Number),
  ];
  if (!numbers.every(Number.isFinite)) throw new Error(`numbers of the pre-flight are ${numbers.join(", ")}`);
}

const kinds: (FuzzKind & { results?: boolean })[] = [
  { name: "recipe", make: jsonCase("recipe"), read: (bytes) => readRecipe(asFile("x.reroute.json", bytes)) },
  {
    name: "plan",
    make: jsonCase("plan"),
    read: (bytes) => {
      const plan = parsePlan(Buffer.from(bytes).toString(), "plan.json", { keep: 0.625 });
      validatePlan(plan, model.description, model.fingerprint);
      if (plan.paradigm === "pruning") plannedSize(model, plan);
    },
  },
  {
    name: "config",
    make: jsonCase("config"),
    read: async (bytes) => {
      asFile("config.json", bytes);
      asFile("model.safetensors", Buffer.concat([originals.get("header")!, originals.get("weights")!]));
      await inspectFolder(at("mutated"));
    },
  },
  {
    name: "header",
    make: bytesCase("header"),
    read: async (bytes) => {
      asFile("config.json", originals.get("config")!);
      asFile("model.safetensors", Buffer.concat([bytes, originals.get("weights")!]));
      await inspectFolder(at("mutated"));
    },
  },
  {
    name: "index",
    make: jsonCase("index"),
    read: async (bytes) => {
      const directory = at("sharded");
      mkdirSync(directory, { recursive: true });
      writeFileSync(path.join(directory, "config.json"), originals.get("config")!);
      for (let i = 0; i < 3; i++)
        cpSync(path.join(teacher, "model.safetensors"), path.join(directory, `model-${i}.safetensors`));
      writeFileSync(path.join(directory, "model.safetensors.index.json"), bytes);
      await inspectFolder(directory);
    },
    results: false,
  },
  { name: "state", make: bytesCase("state"), read: (bytes) => loadState(asFile("state", bytes), "hash") },
  {
    name: "statistics",
    make: bytesCase("statistics"),
    read: async (bytes) => {
      const statistics = await loadRoutingStatistics(asFile("statistics", bytes));
      // What could be read can be written and shown.
      await saveRoutingStatistics(at("mutated/again"), statistics);
      await inRun("routing-statistics.safetensors", bytes, () => writeReport(runDirectory));
    },
  },
  {
    name: "run",
    make: jsonCase("run"),
    read: (bytes) =>
      inRun("run.json", bytes, async () => {
        await listRuns(folder);
        await readRun(runDirectory);
        await writeReport(runDirectory);
      }),
  },
  {
    name: "evaluation",
    make: jsonCase("evaluation"),
    read: (bytes) => inRun("evaluation.json", bytes, () => writeReport(runDirectory)),
  },
  {
    name: "metrics",
    make: bytesCase("metrics"),
    read: (bytes) =>
      inRun("metrics.jsonl", bytes, async () => {
        await writeReport(runDirectory);
        await rewindMetrics(path.join(runDirectory, "metrics.jsonl"), 2);
        const lines = await readMetrics(path.join(runDirectory, "metrics.jsonl"));
        if (lines.some((line) => line.kind !== "resources" && line.step > 2)) throw new Error("a later line is left");
      }),
  },
  {
    name: "provenance",
    make: jsonCase("provenance"),
    read: (bytes) => {
      asFile("reroute.json", bytes);
      return readProvenance(at("mutated"));
    },
  },
  {
    name: "comparison",
    make: jsonCase("comparison"),
    read: async (bytes) => {
      const grid = await readComparisonRecipe(asFile("x.compare.reroute.json", bytes));
      for (const { runDirectory } of cellsOf(grid, folder, "fuzzed")) {
        if (!runDirectory.startsWith(folder)) throw new Error(`a cell lies in ${runDirectory}, outside the comparison`);
      }
    },
  },
  {
    name: "comparison-state",
    make: jsonCase("comparison-state"),
    read: async (bytes) => {
      asFile("comparison.json", bytes);
      await writeComparisonReport(at("mutated"));
    },
  },
  {
    name: "profile-state",
    make: bytesCase("profile-state"),
    read: async (bytes) => {
      const statistics = newStatistics();
      const found = await profileSums(asFile("profile-state", bytes), statistics, model.description).load("key");
      found?.restore();
      // What was taken over can be added to and written.
      await saveRoutingStatistics(at("mutated/again"), statistics.result());
    },
  },
  {
    name: "evaluation-state",
    make: jsonCase("evaluation-state"),
    read: async (bytes) => {
      asFile("evaluation-student-state.json", bytes);
      const { compared, moes, state } = studentPass();
      const { layers, hiddenSize: width } = model.description;
      const found = await state.load([{ numTokens: 8 }], { mostLayers: layers.length, width });
      found?.hidden?.close();
      // What was taken over can be added to and shown.
      for (const { layer, moe } of moes) compared.observe(observation(layer, moe));
      for (const { klByExpert } of compared.results())
        if (klByExpert.length !== moes[0]!.moe.numExperts) throw new Error("sums of another model were taken over");
    },
  },
  {
    name: "lock",
    make: jsonCase("lock"),
    read: async (bytes) => {
      asFile("lock.json", bytes);
      await isHeld(at("mutated"));
      await (
        await lockRunFolder(at("mutated"))
      )();
    },
  },
];

it.each(kinds.map((kind) => [kind.name, kind] as const))(
  "hostile %s: a typed error or a result, in time and memory",
  async (name, kind) => {
    // A lock that cannot be parsed is waited for: its writer may be at it.
    const count = name === "lock" ? Math.min(20, casesOf(kinds.length)) : casesOf(kinds.length);
    const outcomes = await runCases(kind, count);
    const total = Object.values(outcomes).reduce((sum, n) => sum + n, 0);
    expect(total).toBe(count);
    if (kind.results !== false) expect(outcomes["result"]).toBeGreaterThan(0);
  },
);
