import path from "node:path";
import { expect, it } from "vitest";
import { plannedSize } from "../../../src/engine/compression/plannedSize";
import { uniformPlan } from "../../../src/engine/compression/quantising/quantisationPlan";
import { checkWritten } from "../../../src/engine/compression/quantising/readBack";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { QuantisationPlan } from "../../../src/protocol/plan";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import { projectionShape } from "../../../src/engine/compression/layer/expertMatrices";
import { scaleTypeOf } from "../../../src/engine/compression/quantising/quantisedTensors";
import { dequantised, roundToNearest } from "../../../src/engine/weights/roundIntegers";
import { daily } from "../../support/nightly";
import { compress, goldens, makeContext, openModel, randomSequences, runtime, scratch, withExperts } from "./support";

const { folder, fresh } = scratch();
const open = () => openModel(path.join(goldens, "qwen3_moe/checkpoint"));

/** Sum of the measured losses at the widths of a plan, or at one width. */
function lossOf({ layers }: QuantisationPlan, one?: number): number {
  return Object.values(layers).reduce((sum, { bits, experts, losses }) => {
    const count = Object.values(losses!)[0]!.length;
    const at = (e: number) => losses![String(one ?? experts?.[e] ?? bits)]![e]!;
    return sum + Array.from({ length: count }, (_, e) => at(e)).reduce((a, b) => a + b, 0);
  }, 0);
}

const rows = [
  ["expert", "sensitivity", "gptq"],
  ["layer", "sensitivity", "awq"],
  ["layer", "utilisation", "gptq"],
  ["model", "sensitivity", "gptq"],
] as const;
it.each(daily(2, rows))(
  "widths by %s and %s (%s) fit the bytes of 3 bits and lose no more",
  async (granularity, allocate, method) => {
    const model = await open();
    const options = { bits: 3, group: 8, allocate, granularity, sequential: false };
    if (method === "awq") delete (options as { sequential?: boolean }).sequential;
    const context = await makeContext(model, fresh(), { method, keep: 1, options });
    const plan = (await makePlan(context)) as QuantisationPlan;
    const uniform = uniformPlan(model.description, { method, options: { bits: 3, group: 8 } });
    expect(plannedSize(model, plan).bytes).toBeLessThanOrEqual(plannedSize(model, uniform).bytes);
    expect(lossOf(plan)).toBeLessThanOrEqual(lossOf(plan, 3));
    const widths = new Set(
      Object.values(plan.layers)
        .map(({ bits, experts }) => experts ?? bits)
        .flat(),
    );
    if (granularity === "model") expect([...widths]).toEqual([3]);
    if (granularity === "expert") {
      expect(widths.size).toBeGreaterThan(1);
      expect(lossOf(plan)).toBeLessThan(lossOf(plan, 3));
      expect(plan.notes![0]).toContain("transformers WRONGLY");
    } else expect(Object.values(plan.layers).every(({ experts }) => experts === undefined)).toBe(true);
    // Losses fall with bits wherever a token comes by.
    for (const { layer } of moeLayers(model.description)) {
      const { losses } = plan.layers[String(layer)]!;
      losses!["8"]!.forEach((loss, e) => expect(loss).toBeLessThanOrEqual(losses!["2"]![e]!));
    }
    const directory = fresh();
    const layers = await applyPlan(context, plan);
    const written = await compress(context, plan, directory);
    // Our own reader takes each expert's width from the config's patterns.
    await checkWritten(context, plan, layers!, directory);
    expect(plannedSize(model, plan).bytes).toBe(
      [...written.checkpoint.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    );
  },
);

/** Mean KL(p || q) over positions whose next token counts, from logits [2 * 16, V]. */
function meanKl(a: Float32Array, b: Float32Array): number {
  const V = a.length / 32;
  const logSoftmax = (row: Float32Array) => {
    const most = Math.max(...row);
    const log = most + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0));
    return Array.from(row, (value) => value - log);
  };
  let sum = 0;
  for (let t = 0; t < 32; t++) {
    if (t % 16 === 15) continue;
    const [p, q] = [a, b].map((all) => logSoftmax(all.subarray(t * V, (t + 1) * V)));
    sum += p!.reduce((total, value, v) => total + Math.exp(value) * (value - q![v]!), 0);
  }
  return sum / 30;
}

it.each(["layer", "expert"] as const)(
  "widths by the model's KL with one %s alone: losses of checkpoints with its rounded weights, and the best of all choices",
  async (granularity) => {
    const model = await open();
    const sequences = randomSequences(model, 2, 16);
    // Two layers at 2 bits and one at 8 take 6.32 bits a weight here, all at 4 a little less.
    const options = { group: 8, allocate: "loss", granularity, widths: "2,4,8", budget: 6.4 };
    const context = await makeContext(model, fresh(), { method: "gptq", keep: 1, options }, sequences);
    const plan = (await makePlan(context)) as QuantisationPlan;
    const logits = async ({ checkpoint, description }: typeof model) =>
      (
        await runForwardProbe({
          ...{ model: { checkpoint, description }, teacher: null, inputIds: sequences.ids },
          ...{ batch: 2, positions: 16, runtime, scratchDirectory: folder },
        })
      ).get("logits")!.data as Float32Array;
    const original = await logits(model);
    const layers = moeLayers(model.description);
    const isChecked = (layer: number, e: number) => granularity === "layer" || (layer === 1 && e < 3);
    for (const { layer, moe } of layers) {
      for (const bits of [2, 4, 8] as const) {
        const { losses } = plan.layers[String(layer)]!;
        for (const e of granularity === "layer" ? [0] : moe.experts.keys()) {
          if (!isChecked(layer, e)) continue;
          const changed = await withExperts(model, fresh(), async (l, own, read) => {
            if (l !== layer || (granularity === "expert" && own !== e)) return null;
            const expert = await read(own);
            const rounded = { ...expert };
            for (const projection of ["gateProj", "upProj", "downProj"] as const) {
              const [rows, columns] = projectionShape(expert, projection);
              const grid = { bits, group: 8, scaleType: scaleTypeOf(moe) };
              rounded[projection] = Float32Array.from(
                dequantised(roundToNearest(expert[projection], rows, columns, grid)),
              );
            }
            return rounded;
          });
          const expected = meanKl(original, await logits(changed));
          const found =
            granularity === "layer" ? losses![String(bits)]!.reduce((a, b) => a + b) : losses![String(bits)]![e]!;
          expect(Math.abs(found - expected)).toBeLessThan(2e-6 + 1e-3 * expected);
        }
      }
    }
    if (granularity !== "layer") return;
    // Of all 27 choices that fit, none has a smaller sum.
    const lossAt = (choice: readonly number[]) =>
      layers.reduce(
        (sum, { layer }, i) => sum + plan.layers[String(layer)]!.losses![String(choice[i])]!.reduce((a, b) => a + b),
        0,
      );
    const bytesAt = (choice: readonly number[]) =>
      plannedSize(model, {
        ...plan,
        layers: Object.fromEntries(layers.map(({ layer }, i) => [String(layer), { bits: choice[i]!, group: 8 }])),
      }).bytes;
    const fits = bytesAt([8, 2, 2]);
    const choices = [2, 4, 8].flatMap((a) => [2, 4, 8].flatMap((b) => [2, 4, 8].map((c) => [a, b, c])));
    const fitting = choices.filter((choice) => bytesAt(choice) <= fits);
    const chosen = lossAt(Object.values(plan.layers).map(({ bits }) => bits));
    expect(chosen).toBeCloseTo(Math.min(...fitting.map(lossAt)), 12);
    // The sum stands for the KL of the model with all layers rounded: within a tenth of it for every choice, and what is chosen by the sum
    // is what measuring all of them chooses.
    const real: { sum: number; kl: number }[] = [];
    for (const choice of fitting) {
      const layersAt = layers.map(({ layer }, i) => [String(layer), { bits: choice[i]!, group: 8 }] as const);
      const one = { ...plan, method: "rtn", layers: Object.fromEntries(layersAt) } as QuantisationPlan;
      const student = await compress({ ...context, stateDirectory: fresh() }, one, fresh());
      real.push({ sum: lossAt(choice), kl: meanKl(original, await logits(student)) });
    }
    const best = Math.min(...real.map(({ kl }) => kl));
    for (const { sum, kl } of real) expect(Math.abs(sum - kl)).toBeLessThan(0.1 * kl);
    expect(real[fitting.findIndex((choice) => lossAt(choice) === chosen)]!.kl).toBe(best);
  },
);

it("a budget below the smallest widths, widths there are not, and bits of other numbers of experts are refused", async () => {
  const model = await open();
  const plan = async (options: Record<string, string | number>) =>
    makePlan(
      await makeContext(model, fresh(), {
        method: "gptq",
        keep: 1,
        options: { group: 8, allocate: "sensitivity", ...options },
      }),
    );
  await expect(plan({ budget: 1 })).rejects.toMatchObject({ code: "plan/invalid" });
  await expect(plan({ widths: "2,5" })).rejects.toMatchObject({ code: "arguments/invalid" });
  const context = await makeContext(model, fresh(), { method: "rtn", keep: 1, options: { group: 8 } });
  const wrong = (await makePlan(context)) as QuantisationPlan;
  wrong.layers["0"]!.experts = [4, 4];
  await expect(applyPlan(context, wrong)).rejects.toMatchObject({ code: "plan/invalid" });
});
