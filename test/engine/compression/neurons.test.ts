import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { readExpert, type ExpertMatrices } from "../../../src/engine/compression/layer/expertMatrices";
import { makePlan } from "../../../src/engine/compression/methods";
import { cutExpert } from "../../../src/engine/compression/neurons/cutExpert";
import { magnitudeScores } from "../../../src/engine/compression/neurons/scores";
import {
  defaultMultiple,
  highest,
  keptWidth,
  layerWidths,
  rankedWidths,
} from "../../../src/engine/compression/neurons/widths";
import { plannedSize, checkpointSize } from "../../../src/engine/compression/plannedSize";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { families } from "../../../src/engine/model/families/index";
import { createRandom } from "../../../src/engine/tensor/random";
import type { NeuronsPlan } from "../../../src/protocol/plan";
import type { CompressOptions } from "../../../src/protocol/recipe";
import { writeFused } from "../../support/otherLayouts";
import {
  compress,
  difference,
  goldens,
  logitsOf,
  makeContext,
  openModel,
  randomSequences,
  scratch,
  withExperts,
  type OpenModel,
} from "./support";

const { folder, fresh } = scratch();
const seeds = Array.from({ length: 100 }, (_, seed) => seed);
let model: OpenModel;
beforeAll(async () => {
  model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
});
type Options = Partial<CompressOptions>;
const planOf = async (options: Options, on = model) => {
  const context = await makeContext(on, fresh(), { method: "neurons", keep: 0.75, ...options }, randomSequences(on));
  return { context, plan: (await makePlan(context)) as NeuronsPlan };
};
const narrow = async (options: Options, on = model) => {
  const { context, plan } = await planOf(options, on);
  return { plan, student: await compress(context, plan, fresh()) };
};
const expertsOf = (of: OpenModel) =>
  Promise.all(
    moeLayers(of.description).flatMap(({ moe }) => moe.experts.map((expert) => readExpert(of.checkpoint, expert, "x"))),
  );

describe("widths", () => {
  it.each([
    [768, 64],
    [512, 64],
    [256, 32],
    [48, 4],
    [8, 1],
    [3, 1],
  ])("experts of %i: multiples of %i", (width, multiple) => {
    expect(defaultMultiple(width)).toBe(multiple);
  });
  it.each<[number, number, number, number | RegExp]>([
    [0.75, 768, 64, 576],
    [0.5, 48, 4, 24],
    [1, 100, 64, 100],
    [0.01, 768, 64, 64],
    [0.99, 768, 64, /rounds to 768.*keep at most 704/],
    [0.5, 48, 64, /no smaller multiple of 64; set multiple to 4/],
  ])("keep %f of %i in multiples of %i", (keep, width, multiple, expected) => {
    if (typeof expected === "number") expect(keptWidth(keep, width, multiple)).toBe(expected);
    else expect(() => keptWidth(keep, width, multiple)).toThrow(expected);
  });
  it("the lower id stays of equal scores", () => {
    expect(highest(Float64Array.of(1, 3, 1, 3), 3)).toEqual([0, 1, 3]);
  });
  it("units ranked together: the best stay, one of each expert at least", () => {
    expect(rankedWidths([Float64Array.of(9, 8, 7), Float64Array.of(1, 0, 0), Float64Array.of(5, 6, 0)], 6)).toEqual([
      3, 1, 2,
    ]);
  });
  it("over seeds: totals are met, and permuted units change nothing", () => {
    for (const seed of seeds) {
      const random = createRandom(seed);
      const [layers, experts, units] = [1 + random.below(4), 1 + random.below(4), 4 * (2 + random.below(4))];
      const scored = Array.from({ length: layers }, (_, layer) => ({
        layer,
        scores: Array.from({ length: experts }, () => Float64Array.from({ length: units }, () => random.uniform())),
      }));
      const wanted = 4 * (1 + random.below(units / 4));
      const all = (value: number) => new Array<number>(layers).fill(value);
      const widths = layerWidths(scored, all(wanted), all(4));
      expect(widths.reduce((a, b) => a + b, 0)).toBe(layers * wanted);
      expect(widths.every((width) => width >= 4 && width <= units && width % 4 === 0)).toBe(true);
      const turned = scored.map(({ layer, scores }) => ({ layer, scores: scores.map((own) => own.slice().reverse()) }));
      expect(layerWidths(turned, all(wanted), all(4))).toEqual(widths);
      const ranked = rankedWidths(scored[0]!.scores, experts * wanted);
      expect(ranked.reduce((a, b) => a + b, 0)).toBe(experts * wanted);
      expect(rankedWidths(turned[0]!.scores, experts * wanted)).toEqual(ranked);
    }
  });
});

describe("widths of layers", () => {
  it("layers of other widths keep the sum of what was wanted of each", () => {
    // 2 experts of 8 and of 4 units; 4 and 2 are wanted, in steps of 2 and 1. Shares 4/8 of a layer's sum for its first unit, ...
    const layer = (layer: number, scores: number[]) => ({
      layer,
      scores: [Float64Array.from(scores), Float64Array.from(scores)],
    });
    const scored = [layer(0, [4, 3, 1, 0, 0, 0, 0, 0]), layer(1, [1, 1, 1, 1])];
    // The second layer's next units add 1/4 of its sum each, the first one's next pair 1/8.
    expect(layerWidths(scored, [4, 2], [2, 1])).toEqual([2, 4]);
  });
});

describe("one expert", () => {
  const expert: ExpertMatrices = {
    ...{ intermediateSize: 3, hiddenSize: 2 },
    gateProj: Float32Array.of(3, 4, 0, 1, 1, 0),
    upProj: Float32Array.of(1, 0, 0, 2, 1, 0),
    downProj: Float32Array.of(2, 1, 0, 0, 0, 1),
    ...{ gateBias: Float32Array.of(7, 8, 9), upBias: null, downBias: Float32Array.of(5, 6) },
  };
  it("norms of gate row, up row and down column", () => {
    expect([...magnitudeScores(expert)]).toEqual([10, 2, 1]);
  });
  it("is cut and padded", () => {
    const cut = cutExpert(expert, [0, 2], 3);
    expect([...cut.gateProj]).toEqual([3, 4, 1, 0, 0, 0]);
    expect([...cut.downProj]).toEqual([2, 0, 0, 0, 1, 0]);
    expect([...cut.gateBias!]).toEqual([7, 9, 0]);
    expect([...cut.downBias!]).toEqual([5, 6]);
  });
});

describe("on a model", () => {
  it.each(["energy", "camera", "heapr", "magnitude"])(
    "score=%s: one width, config.json says it, the size is as planned",
    async (score) => {
      const { plan, student } = await narrow({ options: { score } });
      const { intermediateSize: I } = moeLayers(model.description)[0]!.moe;
      expect(student.checkpoint.config).toEqual({ ...model.checkpoint.config, moe_intermediate_size: 0.75 * I });
      for (const { moe } of moeLayers(student.description)) expect(moe.intermediateSize).toBe(0.75 * I);
      expect(checkpointSize(student.checkpoint)).toEqual(plannedSize(model, plan));
      expect((await logitsOf(student, folder)).every(Number.isFinite)).toBe(true);
    },
  );

  it("units that never fire change nothing when they leave, and are found", async () => {
    const random = createRandom(5);
    const dead = new Map<string, number[]>();
    const silent = await withExperts(model, fresh(), async (layer, expert, read) => {
      const own = await read(expert);
      const { intermediateSize: I, hiddenSize: H } = own;
      const units = Array.from({ length: I }, (_, unit) => ({ unit, key: random.uniform() }))
        .sort((a, b) => a.key - b.key)
        .slice(0, I / 4)
        .map(({ unit }) => unit)
        .sort((a, b) => a - b);
      dead.set(`${layer} ${expert}`, units);
      const upProj = own.upProj.slice();
      for (const unit of units) upProj.fill(0, unit * H, (unit + 1) * H);
      return { ...own, upProj };
    });
    for (const options of [{}, { repair: true }, { width: "expert" }, { score: "heapr" }, { score: "magnitude" }]) {
      const { plan, student } = await narrow({ options }, silent);
      const { removed } = Object.values(plan.layers)[0]!;
      if (!("width" in options))
        removed.forEach((units, e) => expect(units).toEqual(dead.get(`${Object.keys(plan.layers)[0]!} ${e}`)));
      const off = difference(await logitsOf(student, folder), await logitsOf(silent, folder));
      // Refitted numbers are rounded to the stored dtype again.
      expect(off, JSON.stringify(options)).toBeLessThan("repair" in options ? 2e-2 : 1e-5);
    }
  });

  it.each<[string, CompressOptions["options"]]>([
    ["layer", { width: "layer" }],
    ["expert", { width: "expert" }],
  ])("width=%s is what padding it computes, which keeps config.json", async (_, options) => {
    const { student } = await narrow({ options });
    const { student: padded } = await narrow({ options: { ...options, form: "padded" } });
    expect(difference(await logitsOf(student, folder), await logitsOf(padded, folder))).toBeLessThan(1e-5);
    expect(padded.checkpoint.config["reroute_expert_widths"]).toBeUndefined();
    const widths = student.checkpoint.config["reroute_expert_widths"];
    const before = moeLayers(model.description)[0]!.moe;
    const total = (await expertsOf(student)).reduce((sum, { intermediateSize }) => sum + intermediateSize, 0);
    expect(total).toBe(0.75 * before.intermediateSize * before.numExperts * moeLayers(model.description).length);
    if (options["width"] === "expert") expect(Array.isArray(widths)).toBe(true);
    // What it was written with is read again by every method that takes it.
    const context = await makeContext(student, fresh(), { method: "wanda", keep: 0.5 });
    await compress(context, await makePlan(context), fresh());
  });

  it("fused experts come out as separate ones", async () => {
    const fused = await writeFused("qwen3_moe", fresh());
    const [a, b] = [await narrow({}, fused), await narrow({})];
    expect(await expertsOf(a.student)).toEqual(await expertsOf(b.student));
    await expect(planOf({ options: { width: "expert" } }, fused)).rejects.toMatchObject({
      code: "model/unsupported-option",
    });
  });

  it("refitting the down projection brings the layer's output nearer", async () => {
    const context = await makeContext(model, fresh(), { method: "neurons", keep: 0.5 }, randomSequences(model, 16, 64));
    const plan = await makePlan(context);
    const error = async (repair: boolean) => {
      const { applyPlan } = await import("../../../src/engine/compression/methods");
      const layers = await applyPlan({ ...context, stateDirectory: fresh() }, { ...plan, options: { repair } });
      return [...layers!.values()].map(({ metrics }) => metrics["outputError"]!);
    };
    const [plain, repaired] = [await error(false), await error(true)];
    repaired.forEach((value, i) => expect(value).toBeLessThan(plain[i]!));
  });

  it("every family: experts get narrower, or the reason why not is said before any work", async () => {
    for (const family of families.keys()) {
      const other = await openModel(path.join(goldens, family, "checkpoint"));
      const { intermediateSize: I } = moeLayers(other.description)[0]!.moe;
      const removed = moeLayers(other.description).map(({ layer, moe }) => [
        String(layer),
        { removed: moe.experts.map(() => Array.from({ length: I / 2 }, (_, i) => 2 * i)) },
      ]);
      const plan: NeuronsPlan = {
        ...{ schemaVersion: 1, paradigm: "neurons", method: "neurons", width: "uniform", form: "cut" },
        layers: Object.fromEntries(removed) as NeuronsPlan["layers"],
      };
      const context = await makeContext(other, fresh(), { method: "neurons", keep: 0.5 }, null);
      try {
        plannedSize(other, plan);
      } catch (error) {
        expect(["llama4", "llama4_text", "hunyuan_v1_moe", "cohere2_moe"], `${family}: ${String(error)}`).toContain(
          family,
        );
        expect(error, family).toMatchObject({ code: expect.stringMatching(/unsupported|shape-mismatch/) as unknown });
        continue;
      }
      // Layouts: interleaved with biases, joined and turned, fused, shared experts of the same key, other names.
      if (!["gpt_oss", "qwen3_vl_moe", "granitemoe", "deepseek_v2", "mixtral"].includes(family)) continue;
      const student = await compress(context, plan, fresh());
      expect(moeLayers(student.description)[0]!.moe.intermediateSize, family).toBe(I / 2);
      const kept = await readExpert(other.checkpoint, moeLayers(other.description)[0]!.moe.experts[1]!, "x");
      const [, second] = await expertsOf(student);
      const odd = Array.from({ length: I / 2 }, (_, i) => 2 * i + 1);
      expect(second, family).toEqual(cutExpert(kept, odd, I / 2));
    }
  });

  it.each<[string, Options, string, RegExp]>([
    ["a count", { keep: 8 }, "plan/invalid", /narrows it/],
    ["nothing leaves", { keep: 0.99 }, "plan/invalid", /nothing would leave/],
    ["an unknown score", { options: { score: "best" } }, "arguments/invalid", /score/],
  ])("refused: %s", async (_, options, code, message) => {
    await expect(planOf(options)).rejects.toMatchObject({ code, message: expect.stringMatching(message) as unknown });
  });
});
