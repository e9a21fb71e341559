import path from "node:path";
import { expect, it } from "vitest";
import { plannedSize } from "../../../src/engine/compression/plannedSize";
import { uniformPlan } from "../../../src/engine/compression/quantising/quantisationPlan";
import { checkWritten } from "../../../src/engine/compression/quantising/readBack";
import { applyPlan, makePlan } from "../../../src/engine/compression/methods";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { QuantisationPlan } from "../../../src/protocol/plan";
import { daily } from "../../support/nightly";
import { compress, goldens, makeContext, openModel, scratch } from "./support";

const { fresh } = scratch();
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
