import path from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { applyPlan, makePlan, methods, type MethodContext } from "../../../src/engine/compression/methods";
import { aimerScores } from "../../../src/engine/compression/pruning/aimer";
import { isPruningCriterion } from "../../../src/engine/compression/pruning/criteria";
import { makePruningPlan } from "../../../src/engine/compression/pruning/pruningPlan";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import type { CompressionPlan } from "../../../src/protocol/plan";
import { compressionMethods, paradigmOf } from "../../../src/protocol/methods";
import type { CompressOptions } from "../../../src/protocol/recipe";
import {
  compress,
  difference,
  goldens,
  logitsOf,
  makeContext,
  scratch,
  openModel,
  randomSequences,
  withExperts,
  type OpenModel,
} from "./support";
import { isNightly } from "../../support/nightly";

/** What every method does at the edges: nothing to do, nothing seen, nothing to tell apart, nothing finite, not its plan. */

const { folder, fresh } = scratch();
let base: OpenModel;
/** All experts of a layer are its first. */
let equal: OpenModel;
/** One gate projection is not finite. */
let damaged: OpenModel;
beforeAll(async () => {
  base = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
  equal = await withExperts(base, fresh(), async (_layer, expert, read) => (expert === 0 ? null : read(0)));
  damaged = await withExperts(base, fresh(), async (layer, expert, read) => {
    if (layer !== 1 || expert !== 2) return null;
    const original = await read(expert);
    return { ...original, gateProj: original.gateProj.map(() => NaN) };
  });
});

type Method = CompressOptions["method"];
const few: Partial<Record<Method, CompressOptions["options"]>> = {
  mobe: { steps: 3 },
  ...{ rtn: { group: 0 }, gptq: { group: 0 }, awq: { group: 0 }, fp8: { format: "fp8" } },
};

async function planOf(context: MethodContext): Promise<CompressionPlan> {
  const { method } = context.options;
  if (!isPruningCriterion(method)) return makePlan(context);
  const weightScores = method === "aimer" ? await aimerScores(context.checkpoint, context.description, {}) : null;
  return makePruningPlan({ ...context, weightScores });
}

async function run(model: OpenModel, options: Partial<CompressOptions>, sequences = randomSequences(model)) {
  const method = options.method!;
  const context = await makeContext(model, fresh(), { options: few[method] ?? {}, ...options }, sequences);
  const plan = await planOf(context);
  const student = await compress(context, plan, fresh());
  return { plan, student, logits: await logitsOf(student, folder), context };
}

/** Methods that differ from another one in the formula of a score alone, of which the edges know nothing. */
const alike: Method[] = ["frequency", "weighted-frequency", "ean", "cfes", "easy-ep", "svd", "d2-moe"];
/** MXFP4 needs widths that are multiples of 32, which this model's are not. */
const tried = compressionMethods.filter((method) => method !== "mxfp4" && (isNightly || !alike.includes(method)));

describe.each(tried)("%s", (method) => {
  const text = isPruningCriterion(method)
    ? !["aimer", "random"].includes(method)
    : methods[method].needs.statistics || methods[method].needs.text;

  // Of a quantisation every expert stays, rounded: its identity is below. Symmetric steps, which router-rtn has, are none of any
  // matrix: the largest weight lies half a step beyond the last code.
  it.skipIf(paradigmOf(method) === "quantisation" || method === "router-rtn")(
    "keeping everything is the identity",
    async () => {
      const { logits } = await run(base, { method, keep: 1 });
      expect(difference(logits, await logitsOf(base, folder))).toBe(0);
    },
  );

  it("experts that no token reached: it works, and says so where it looks at tokens", async () => {
    const { plan, student, logits, context } = await run(base, { method, keep: 0.75 }, randomSequences(base, 1, 2));
    expect(logits.every(Number.isFinite)).toBe(true);
    expect(moeLayers(student.description)).toHaveLength(moeLayers(base.description).length);
    const applied = await applyPlan(context, plan);
    const notes = [...(plan.notes ?? []), ...[...(applied?.values() ?? [])].flatMap((layer) => layer.notes)];
    if (text) expect(notes.join("\n")).toMatch(/experts never routed by 2 calibration tokens|never routed \(/);
  });

  it("experts that are all equal: whichever go or join, nothing changes", async () => {
    const { logits } = await run(equal, { method, keep: 0.75 });
    expect(logits.every(Number.isFinite)).toBe(true);
    // Routing weights are normalised here, so one expert is as good as any. HC-SMoE's ZipIt joins other units.
    const isLossless =
      (paradigmOf(method) === "pruning" && method !== "mone") || ["m-smoe", "ream", "d2-moe"].includes(method);
    const off = difference(logits, await logitsOf(equal, folder));
    if (isLossless) expect(off).toBeLessThan(method === "d2-moe" ? 5e-3 : 1e-5);
    else expect(off).toBeLessThan(2);
  });

  it("weights or activations that are not finite: a typed error that names the place", async () => {
    if (method === "random") return;
    // A profile of damaged weights stops by itself; here it is of the sound ones, as if they had been damaged since.
    const context = await makeContext(base, fresh(), { method, keep: 0.75, options: few[method] ?? {} });
    const changed = { ...context, ...damaged };
    const attempt = async () => {
      const plan = await planOf(changed);
      // Where statistics alone decide, applying copies bytes or, for constants, reads none.
      if (paradigmOf(method) !== "pruning") await applyPlan(changed, plan);
      return plan;
    };
    const looksAgain = method === "aimer" || !(isPruningCriterion(method) || method === "mone");
    if (!looksAgain) {
      await expect(makeContext(damaged, fresh(), { method })).rejects.toMatchObject({ code: "checkpoint/not-finite" });
      return;
    }
    await expect(attempt()).rejects.toMatchObject({
      code: "checkpoint/not-finite",
      message: expect.stringMatching(/layer [12]|layers\.1/) as unknown,
    });
  });
});

describe("a plan for another model", () => {
  it.each(["reap", "mone", "svd", "m-smoe"] as const)("of %s is refused before any work", async (method) => {
    const context = await makeContext(base, fresh(), { method, keep: 0.75 });
    const plan = await planOf(context);
    const refused = { code: "plan/invalid" };
    await expect(applyPlan({ ...context, fingerprint: "another" }, plan)).rejects.toMatchObject(refused);
    const other = await openModel(path.join(goldens, "deepseek_v3/checkpoint"));
    const { teacherFingerprint: _, ...anonymous } = plan;
    const moved = { ...context, ...other, statistics: null };
    await expect(applyPlan(moved, anonymous as CompressionPlan)).rejects.toMatchObject(refused);
  });
});

/** Weights [rows, columns] on a grid, row by row: the numbers of `first` come first, the others by `next`. */
function onGrid(values: Float32Array, columns: number, first: readonly number[], next: (at: number) => number) {
  return values.map((_, at) => first[at % columns] ?? next(at));
}

describe.each<[Method, CompressOptions["options"], (values: Float32Array, columns: number) => Float32Array]>([
  // All 16 codes of a step of 1/128; of FP8, steps of 2^-12 and the largest number there is.
  ...(["rtn", "gptq", "awq"] as const).map(
    (method): [Method, CompressOptions["options"], (values: Float32Array, columns: number) => Float32Array] => [
      method,
      { bits: 4, group: 0, symmetric: false },
      (values, columns) =>
        onGrid(values, columns, [-8 / 128, 7 / 128], (at) => (((at * 7 + Math.floor(at / columns)) % 16) - 8) / 128),
    ],
  ),
  [
    "fp8",
    { format: "fp8" },
    (values, columns) => onGrid(values, columns, [448 / 4096], (at) => ((at % 15) - 7) * 2 ** ((at % 4) - 9)),
  ],
])("%s of weights that lie on its grid", (method, options, grid) => {
  it("changes nothing", async () => {
    const model = await withExperts(base, fresh(), async (_, expert, read) => {
      const own = await read(expert);
      const { hiddenSize: H, intermediateSize: I } = own;
      return { ...own, gateProj: grid(own.gateProj, H), upProj: grid(own.upProj, H), downProj: grid(own.downProj, I) };
    });
    const { logits } = await run(model, { method, keep: 1, options });
    // The same numbers by another product of onnxruntime.
    expect(difference(logits, await logitsOf(model, folder))).toBeLessThan(2e-6);
  });
});
