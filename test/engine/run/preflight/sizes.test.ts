import path from "node:path";
import { describe, expect, it } from "vitest";
import { makePlan } from "../../../../src/engine/compression/methods";
import { layoutNeedsOf, validateLayout } from "../../../../src/engine/compression/plan/validateLayout";
import { isPruningCriterion } from "../../../../src/engine/compression/pruning/criteria";
import { makePruningPlan } from "../../../../src/engine/compression/pruning/pruningPlan";
import { countParameters, flopsPerToken } from "../../../../src/engine/model/parameters";
import { checkpointSize, compressedSize, plannedSize } from "../../../../src/engine/compression/plannedSize";
import { compressOptions, type CompressOptions } from "../../../../src/protocol/recipe";
import { compress, goldens, makeContext, scratch, openModel } from "../../compression/support";

const { fresh } = scratch();

type Method = CompressOptions["method"];
const rows: [family: string, method: Method, options: CompressOptions["options"], keep: number, exact?: false][] = [
  ["qwen3_moe", "reap", {}, 5],
  ["granitemoe", "reap", {}, 5],
  ["gpt_oss", "random", {}, 5],
  ["qwen3_moe", "mone", {}, 5],
  ["qwen3_moe", "m-smoe", {}, 5],
  ["deepseek_v3", "m-smoe", {}, 8],
  ["granitemoe", "m-smoe", {}, 5],
  ["qwen3_moe", "m-smoe", { router: "map" }, 5],
  ["qwen3_moe", "m-smoe", { router: "map", groups: "global" }, 5],
  ["qwen3_moe", "m-smoe", { router: "duplicate" }, 5],
  ["qwen3_moe", "svd", {}, 0.5],
  ["qwen3_moe", "svd", { output: "factored" }, 0.5],
  ["qwen2_moe", "svd-llm", { output: "factored" }, 0.7],
  ["qwen3_moe", "d2-moe", { output: "factored" }, 0.5],
  ["qwen3_moe", "mobe", { output: "factored", steps: 2 }, 0.5],
  ["qwen3_moe", "mobe", { output: "factored", steps: 2, bases: 3 }, 0.6],
  ["qwen3_moe", "td-moe", { output: "factored" }, 0.5, false],
];

describe("the size that is said beforehand is the size that is written", () => {
  it.each(rows)("%s, %s %o", async (family, method, options, keep, exact) => {
    const model = await openModel(path.join(goldens, family, "checkpoint"));
    const context = await makeContext(model, fresh(), { method, options, keep });
    const plan = isPruningCriterion(method)
      ? makePruningPlan({ ...context, weightScores: null })
      : await makePlan(context);
    const student = await compress(context, plan, fresh());
    const written = checkpointSize(student.checkpoint);
    expect(plannedSize(model, plan)).toEqual(written);
    const said = compressedSize(model, compressOptions.parse({ method, options, keep }));
    if (exact === false) expect(Math.abs(said.parameters / written.parameters - 1)).toBeLessThan(0.02);
    else expect(said).toEqual(written);
    // What evaluation.json and reports say agrees with the file.
    expect(countParameters(student.description).total).toBe(written.parameters);
    const { active, total } = countParameters(student.description);
    expect(active).toBeLessThanOrEqual(total);
    expect(flopsPerToken(student.description, 64)).toBeGreaterThan(0);
  });

  it("factored matrices cost a token what their products cost", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const flopsOf = async (method: Method) => {
      const context = await makeContext(model, fresh(), { method, keep: 0.5, options: { output: "factored" } });
      const plan = await makePlan(context);
      const { description } = await compress(context, plan, fresh());
      if (plan.paradigm !== "editing") throw new Error("no editing plan");
      const moe = description.layers[0]!.feedForward;
      if (moe.kind !== "moe") throw new Error("no MoE layer");
      const { ranks } = plan.layers["0"]!;
      return { flops: flopsPerToken(description, 64), ranks, moe, H: description.hiddenSize };
    };
    const dense = flopsPerToken(model.description, 64);
    const { flops, ranks, moe, H } = await flopsOf("svd");
    const I = moe.intermediateSize;
    const layers = model.description.layers.length;
    const saved = (["gateProj", "upProj", "downProj"] as const).reduce(
      (sum, p) => sum + I * H - ranks[p]! * (I + H),
      0,
    );
    expect(dense - flops).toBe(2 * layers * moe.numExpertsPerToken * saved);
    const delta = await flopsOf("d2-moe");
    const added = (["gateProj", "upProj", "downProj"] as const).reduce((sum, p) => sum + delta.ranks[p]! * (I + H), 0);
    expect(delta.flops - dense).toBe(2 * layers * moe.numExpertsPerToken * added);
  });
});

describe("storage that a method cannot write back is refused before any work", () => {
  const rows: [family: string, options: Partial<CompressOptions>, message: RegExp | null][] = [
    ["granitemoe", { method: "svd", options: { output: "factored" } }, /fused tensors.*use output=dense/],
    ["granitemoe", { method: "mone" }, /one tensor an expert.*are fused/],
    ["llama4_text", { method: "hc-smoe" }, /routing weights multiply what each expert reads/],
    ["llama4_text", { method: "svd-llm" }, /routing weights multiply what each expert reads/],
    ["granitemoe", { method: "svd" }, null],
    ["granitemoe", { method: "hc-smoe" }, null],
    ["qwen3_moe", { method: "mone" }, null],
    ["granitemoe", { method: "svd", keep: 1, options: { output: "factored" } }, null],
  ];
  it.each(rows)("%s %o", async (family, options, message) => {
    const { description } = await openModel(path.join(goldens, family, "checkpoint"));
    const check = () => {
      validateLayout(layoutNeedsOf(compressOptions.parse(options)), description);
    };
    if (message === null) expect(check).not.toThrow();
    else {
      expect(check).toThrow(message);
      expect(check).toThrow(expect.objectContaining({ code: "model/unsupported-option" }));
    }
  });
  it("factored experts are not merged or edited again, by name", async () => {
    const model = await openModel(path.join(goldens, "qwen3_moe/checkpoint"));
    const context = await makeContext(model, fresh(), { method: "svd", options: { output: "factored" } });
    const student = await compress(context, await makePlan(context), fresh());
    for (const method of ["hc-smoe", "svd"] as const) {
      expect(() => {
        validateLayout(layoutNeedsOf(compressOptions.parse({ method })), student.description);
      }).toThrow(/is stored as BF16 \(factors\)/);
    }
    const again = await makeContext(student, fresh(), { method: "random", keep: 5 });
    const pruned = await compress(again, makePruningPlan({ ...again, weightScores: null }), fresh());
    expect(countParameters(pruned.description).total).toBe(checkpointSize(pruned.checkpoint).parameters);
  });
});
