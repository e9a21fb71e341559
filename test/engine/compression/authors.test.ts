import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { aimerScores } from "../../../src/engine/compression/pruning/aimer";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import type { MethodContext } from "../../../src/engine/compression/methodContext";
import { makePlan } from "../../../src/engine/compression/methods";
import { buildSequences } from "../../../src/engine/data/buildSequences";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import type { CompressionPlan, MergingPlan, PruningPlan } from "../../../src/protocol/plan";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import type { CompressOptions } from "../../../src/protocol/recipe";
import figures from "../../fixtures/authors/methods.json";
import kd from "../../fixtures/authors/routerKd.json";
import { compress, makeContext, openModel, runtime, scratch, type OpenModel } from "./support";
import { daily } from "../../support/nightly";

const { fresh } = scratch();
const sample = path.join(__dirname, "../../../media/sample");
const directories = { fine: path.join(sample, "checkpoint"), coarse: path.join(__dirname, "../../fixtures/coarse") };
type Score = keyof (typeof figures)[number]["layers"][number]["scores"];
type Group = MergingPlan["layers"][string]["groups"][number];
interface Figures {
  model: string;
  layers: {
    scores: Record<Score, number[]>;
    kept: Record<Score, number[][]>;
    groups: Record<"hc-smoe" | "m-smoe", number[][]>;
    ream?: Record<"squared" | "printed", Group[]>;
    naee?: { kept: number[] };
  }[];
}
const authors: Figures[] = figures;

/** The first sequences of the sample's calibration text; both models have its tokenizer. */
async function textOf({ description }: OpenModel, sequences: number, sequenceLength: number) {
  return buildSequences({
    path: path.join(sample, "calibration.jsonl"),
    tokenizer: await loadTokenizer(path.join(sample, "checkpoint")),
    vocabSize: description.vocabSize,
    sequences,
    sequenceLength,
    packing: "packed",
  });
}

/** What make_authors.py computed on the same 4,096 tokens of two trained models: scores, kept sets and groups. */
describe.each(authors)("$model", ({ model: name, layers }) => {
  let context: MethodContext;
  beforeAll(async () => {
    const directory = directories[name as keyof typeof directories];
    const model = await openModel(directory);
    const sequences = await textOf(model, 16, 256);
    context = await makeContext(model, fresh(), {}, sequences);
  });
  const counts = layers[0]!.kept.reap.map((kept) => kept.length);
  const planned = async <P extends CompressionPlan>(options: Partial<CompressOptions>, make = makePlan) =>
    (await make({ ...context, stateDirectory: fresh(), options: { ...context.options, ...options } })) as P;

  const scores: [Score, Partial<CompressOptions>][] = [
    ["frequency", { method: "frequency" }],
    ["weighted-frequency", { method: "weighted-frequency" }],
    ["ean", { method: "ean" }],
    ["reap", { method: "reap" }],
    ["reap softmax", { method: "reap", reapWeights: "softmax" }],
    ["easy-ep", { method: "easy-ep" }],
    ["aimer", { method: "aimer" }],
    ["mone", { method: "mone" }],
  ];
  it.each(scores)("%s: scores, and which experts stay", async (score, options) => {
    for (const [i, keep] of counts.entries()) {
      const plan = await planned<PruningPlan>({ ...options, keep }, async (of) => {
        if (score === "mone") return makePlan(of);
        const weightScores = score === "aimer" ? await aimerScores(of.checkpoint, of.description, {}) : null;
        return makePruningPlan({ ...of, weightScores });
      });
      for (const [l, expected] of layers.entries()) {
        const { kept, scores: found } = plan.layers[String(l)]!;
        expect(kept, `layer ${l}`).toEqual(expected.kept[score][i]);
        // MoNE's variance is a difference of sums: of an expert with few tokens, what is left of them is rounding.
        const floor = score === "mone" ? 1e-6 * Math.max(...expected.scores.mone) : 0;
        found!.forEach((value, e) => {
          const wanted = expected.scores[score][e]!;
          const off = Math.abs((value ?? 0) - wanted);
          expect(off, `layer ${l}, expert ${e}`).toBeLessThanOrEqual(2e-5 * Math.abs(wanted) + floor);
        });
      }
    }
  });

  it.each(["hc-smoe", "m-smoe"] as const)("%s: groups", async (method) => {
    const plan = await planned<MergingPlan>({ method, keep: layers[0]!.groups[method].length });
    for (const [l, { groups }] of layers.entries()) {
      const found = plan.layers[String(l)]!.groups.map(({ members }) => members).sort((a, b) => a[0]! - b[0]!);
      expect(found, `layer ${l}`).toEqual(groups[method]);
    }
  });

  it.each(name === "fine" ? (["squared"] as const) : daily(1, ["squared", "printed"] as const))(
    "REAM with saliency %s: the first layer's groups and weights",
    async (kind) => {
      const expected = layers[0]!.ream![kind];
      const plan = await planned<MergingPlan>({ method: "ream", keep: expected.length, options: { saliency: kind } });
      const found = plan.layers["0"]!.groups;
      expect(found.map(({ dominant, members }) => ({ dominant, members }))).toEqual(
        expected.map(({ dominant, members }) => ({ dominant, members })),
      );
      found.forEach(({ weights }, g) =>
        weights.forEach((weight, i) => expect(weight).toBeCloseTo(expected[g]!.weights[i]!, 5)),
      );
    },
  );

  it.runIf(name === "coarse")("naee: the set that loses least, of all sets", async () => {
    const keep = layers[0]!.naee!.kept.length;
    const plan = await planned<PruningPlan>({ method: "naee", keep, options: { maxTokens: 2048 } });
    expect(Object.values(plan.layers).map(({ kept }) => kept)).toEqual(layers.map(({ naee }) => naee!.kept));
  });
});

/** The loss of each update moves with the routers: a wrong gradient, clip, moment or rate shows from the second on. */
it("Router KD: the losses of PyTorch's AdamW on the same student, batches and rates", async () => {
  const { kept, batch, sequenceLength, learningRate, losses } = kd;
  const teacher = await openModel(directories.fine);
  const layers = Object.fromEntries(kept.map((ids, layer) => [String(layer), { kept: ids }]));
  const plan: PruningPlan = { schemaVersion: 1, paradigm: "pruning", method: "reap", layers };
  const student = await compress(await makeContext(teacher, fresh(), {}, null), plan, fresh());
  const found: number[] = [];
  await calibrate({
    teacher,
    student,
    training: await textOf(teacher, batch * losses.length, sequenceLength),
    heldOut: null,
    options: calibrateOptions.parse({ batch, learningRate, warmup: 0 }),
    seed: 42,
    runtime,
    stateDirectory: fresh(),
    onMetrics: (line) => {
      if (line.kind === "update") found.push(line.loss);
    },
  });
  expect(found.length).toBe(losses.length);
  found.forEach((loss, update) => expect(Math.abs(loss / losses[update]! - 1), `update ${update}`).toBeLessThan(1e-4));
});
