import path from "node:path";
import { describe, expect, it } from "vitest";
import { applyPlan, forecastOf, makePlan } from "../../../src/engine/compression/methods";
import { plannedSize } from "../../../src/engine/compression/plannedSize";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { NeuronsPlan, QuantisationPlan } from "../../../src/protocol/plan";
import type { CompressOptions } from "../../../src/protocol/recipe";
import {
  compress,
  goldens,
  makeContext,
  meanOverlap,
  openModel,
  randomSequences,
  runtime,
  scratch,
  type OpenModel,
} from "./support";

const { folder, fresh } = scratch();
const open = () => openModel(path.join(goldens, "qwen3_moe/checkpoint"));

const logitsOn = async ({ checkpoint, description }: OpenModel, ids: Int32Array) =>
  (
    await runForwardProbe({
      ...{ model: { checkpoint, description }, teacher: null, inputIds: ids },
      ...{ batch: 2, positions: 16, runtime, scratchDirectory: folder },
    })
  ).get("logits")!.data as Float32Array;

/** Every choice of one of some values for each of three layers. */
const choices = (values: readonly number[]) =>
  values.flatMap((a) => values.flatMap((b) => values.map((c) => [a, b, c])));

const search = { population: 40, generations: 3, searchSequences: 2 };
const numberIn = (text: string, pattern: RegExp) => pattern.exec(text)!.slice(1).map(Number);

describe.each<[string, Partial<CompressOptions>, readonly number[], number[], number[]]>([
  [
    "units of layers",
    {
      method: "neurons",
      keep: 2 / 3,
      options: { width: "layer", budget: "evoesap", multiple: 8, score: "magnitude", ...search },
    },
    [8, 16, 24],
    [16, 16, 16],
    [16, 16, 16],
  ],
  [
    "bits of layers",
    {
      method: "gptq",
      keep: 1,
      options: { group: 8, allocate: "evoesap", widths: "2,4,8", budget: 6.4, sequential: false, ...search },
    },
    [2, 4, 8],
    [4, 4, 4],
    // Rows of 24 at 2 bits fill up their last word: two layers at 2 and one at 8 take a little more than all at 4, 6.32 bits a weight.
    [8, 2, 2],
  ],
])("%s by search", (_, compressing, values, uniform, largest) => {
  it("the plan is the best of all that fit, each written and run, and an interrupted search ends with the same", async () => {
    const model = await open();
    const sequences = randomSequences(model, 2, 16);
    const context = await makeContext(model, fresh(), compressing, sequences);
    type Plan = NeuronsPlan | QuantisationPlan;
    const plan = (await makePlan(context)) as Plan;
    const layers = moeLayers(model.description);
    const widthsIn = (of: Plan) =>
      layers.map(({ layer, moe }) =>
        of.paradigm === "neurons"
          ? moe.intermediateSize - of.layers[String(layer)]!.removed[0]!.length
          : of.layers[String(layer)]!.bits,
      );
    // Units of an expert leave in one order, whatever the width: read off plans of one width for all.
    const removedAt = new Map<number, NeuronsPlan>();
    const planAt = async (widths: readonly number[]): Promise<Plan> => {
      if (plan.paradigm === "quantisation") {
        const at = layers.map(({ layer }, i) => [String(layer), { bits: widths[i]!, group: 8 }] as const);
        return { ...plan, method: "rtn", layers: Object.fromEntries(at) };
      }
      for (const width of new Set(widths)) {
        if (removedAt.has(width) || width === 24) continue;
        const one = { method: "neurons", keep: width / 24, options: { multiple: 8, score: "magnitude" } } as const;
        removedAt.set(width, (await makePlan(await makeContext(model, fresh(), one, sequences))) as NeuronsPlan);
      }
      const at = layers.map(({ layer, moe }, i) => {
        const kept = removedAt.get(widths[i]!)?.layers[String(layer)];
        return [String(layer), kept ?? { removed: moe.experts.map(() => []) }] as const;
      });
      return { ...plan, layers: Object.fromEntries(at) };
    };
    const bytes = async (widths: readonly number[]) => plannedSize(model, await planAt(widths)).bytes;
    const most = await bytes(largest);
    const sized: { widths: readonly number[]; bytes: number }[] = [];
    for (const widths of choices(values)) sized.push({ widths, bytes: await bytes(widths) });
    const fitting = sized.filter((one) => one.bytes <= most);
    // Those to which nothing can be added.
    const full = fitting.filter(({ widths }) =>
      fitting.every((other) => other.widths === widths || other.widths.some((width, i) => width < widths[i]!)),
    );
    const original = await logitsOn(model, sequences.ids);
    const brute: { widths: readonly number[]; overlap: number }[] = [];
    for (const { widths } of full) {
      const student = await compress({ ...context, stateDirectory: fresh() }, await planAt(widths), fresh());
      brute.push({ widths, overlap: meanOverlap(original, await logitsOn(student, sequences.ids), 2, 16) });
    }
    const best = brute.reduce((a, b) => (b.overlap > a.overlap ? b : a));
    expect(widthsIn(plan)).toEqual(best.widths);
    const note = plan.notes!.find((line) => line.includes("evoesap"))!;
    const [measured, found, before] = numberIn(note, /measured (\d+) budgets.* model ([\d.]+), ([\d.]+) with/);
    expect(measured).toBe(full.length);
    expect(found).toBeCloseTo(best.overlap, 4);
    expect(before).toBeCloseTo(brute.find(({ widths }) => String(widths) === String(uniform))!.overlap, 4);
    expect(plannedSize(model, plan).bytes).toBeLessThanOrEqual(most);
    if (new Set(best.widths).size > 1) expect(plan.notes!.join(" ")).toMatch(/only Reroute|WRONGLY/);

    const again = await makeContext(model, fresh(), compressing, sequences);
    const stop = new AbortController();
    let steps = 0;
    const report = ({ message }: { message: string }) => {
      if (message === "Searching budgets" && ++steps === 2) stop.abort();
    };
    await expect(makePlan({ ...again, signal: stop.signal, report })).rejects.toThrow();
    const resumed = (await makePlan(again)) as Plan;
    expect(resumed).toEqual(plan);
    const staged = await applyPlan(again, resumed);
    expect(staged!.size).toBe(layers.length);
  });

  it("the forecast counts the passes of the search", async () => {
    const { description } = await open();
    const { method = "reap", options = {} } = compressing;
    const { passes } = forecastOf(method);
    const without = passes({ ...options, budget: "sensitivity", allocate: "sensitivity" }, description);
    // 1 + 40 + 3 * 30 candidates of 2 sequences each, in passes of 64 sequences.
    expect(passes(options, description) - without).toBeCloseTo((131 * 2) / 64, 12);
    expect(passes({ ...options, sequences: 4 }, description) - without).toBeCloseTo((131 * 2) / 4, 12);
  });
});

it.each<[string, Partial<CompressOptions>, RegExp]>([
  ["units of one width", { method: "neurons", keep: 0.5, options: { budget: "evoesap" } }, /width=layer/],
  ["units of experts", { method: "neurons", keep: 0.5, options: { budget: "evoesap", width: "expert" } }, /too many/],
  ["units by redundancy", { method: "neurons", keep: 0.5, options: { budget: "grape" } }, /units are not/],
  [
    "bits of experts",
    { method: "gptq", options: { group: 8, allocate: "evoesap", granularity: "expert" } },
    /too many/,
  ],
  [
    "bits of the model",
    { method: "awq", options: { group: 8, allocate: "evoesap", granularity: "model" } },
    /one width/,
  ],
  ["bits by redundancy", { method: "gptq", options: { group: 8, allocate: "grape" } }, /nothing about their bits/],
  ["bits of rtn", { method: "rtn", options: { group: 8, budget: "evoesap" } }, /gptq and awq/],
])("refused: %s", async (_, options, message) => {
  const context = await makeContext(await open(), fresh(), { keep: 1, ...options });
  await expect(makePlan(context)).rejects.toMatchObject({
    code: "arguments/invalid",
    message: expect.stringMatching(message) as unknown,
  });
});
