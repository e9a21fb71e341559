import path from "node:path";
import { describe, expect, it } from "vitest";
import { editPlan } from "../../../src/engine/compression/planPage/editPlan";
import { viewOfPlan } from "../../../src/engine/compression/planPage/planView";
import { editPlanText, readPlanPage } from "../../../src/engine/report/planPage";
import { openModel } from "../../../src/engine/run/modelCache";
import type { GroupLimit } from "../../../src/engine/model/description";
import type { PlanEdit } from "../../../src/protocol/panels";
import { planSchema, type CompressionPlan } from "../../../src/protocol/plan";
import { describeLayers } from "./description";
import { goldens } from "./support";

const groups: GroupLimit = { numGroups: 2, topGroups: 1, score: "sum-of-two" };
const model = { description: describeLayers({}, {}), fingerprint: "f" };
// Patterns of weights look at the widths of experts, of which there are none here.
for (const { feedForward } of model.description.layers) Object.assign(feedForward, { experts: [] });
const grouped = { description: describeLayers({ groups }, { groups }), fingerprint: "f" };
const scores = [5, null, 3, 8, 1, 7, 2, 6];

const written = (plan: object): string => `${JSON.stringify({ schemaVersion: 1, ...plan }, null, 2)}\n`;
const pruning = (kept1: number[], kept2 = kept1, more: object = {}): string =>
  written({
    paradigm: "pruning",
    method: "reap",
    ...more,
    layers: { 1: { kept: kept1, scores }, 2: { kept: kept2, scores } },
  });
const lone = (member: number) => ({ members: [member], weights: [1], dominant: member });
const merging = (router: "fold" | "map"): string => {
  const layer = {
    groups: [
      { members: [0, 3, 4], weights: [0.5, 0.3, 0.2], dominant: 3 },
      { members: [1, 6], weights: [0.75, 0.25], dominant: 6 },
      { members: [2, 5, 7], weights: [0.5, 0.25, 0.25], dominant: 7 },
    ],
  };
  return written({ paradigm: "merging", method: "hc-smoe", router, layers: { 1: layer, 2: layer } });
};
const quantised = written({
  paradigm: "quantisation",
  method: "rtn",
  format: "pack-quantized",
  layers: { 1: { bits: 4, group: 32 }, 2: { bits: 8, group: 32 } },
});
const sparse = written({
  paradigm: "sparsity",
  method: "wanda",
  layers: { 1: { keep: [0.4, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5] }, 2: { keep: new Array(8).fill(0.5) } },
});

/** The plan after the edit, as the engine reads it. */
function edited(text: string, edit: PlanEdit, of = model): { plan: CompressionPlan; said: string } {
  const { text: next, said } = editPlan(text, edit, of);
  return { plan: planSchema.parse(JSON.parse(next)), said };
}
const layer1 = ({ layers }: CompressionPlan): unknown => layers["1"];

describe("an edited plan", () => {
  const rows: [string, string, PlanEdit, unknown, RegExp][] = [
    // Scores from the best: 3, 5, 7, 0, 2, 6, 4, then 1 without a score.
    [
      "drops one expert; the best of those dropped takes its place",
      pruning([0, 3, 5, 7]),
      { kind: "expert", layer: 1, expert: 3 },
      { kept: [0, 2, 5, 7] },
      /expert 3 of layer 1 is dropped, expert 2 is kept/,
    ],
    [
      "keeps one; the worst of those kept leaves, unscored first",
      pruning([0, 1, 3, 5]),
      { kind: "expert", layer: 1, expert: 4 },
      { kept: [0, 3, 4, 5] },
      /expert 1 is dropped in its place/,
    ],
    [
      "changes one layer alone",
      pruning([0, 3, 5, 7], undefined, { counts: "by-layer" }),
      { kind: "expert", layer: 1, expert: 3 },
      { kept: [0, 5, 7] },
      /^expert 3 of layer 1 is dropped$/,
    ],
    [
      "keeps more, those chosen by hand among them",
      pruning([1, 4]),
      { kind: "amount", layer: null, name: "", value: 4 },
      { kept: [1, 3, 4, 5] },
      /every layer: 4/,
    ],
    [
      "keeps fewer: the best of those kept",
      pruning([0, 1, 3, 4]),
      { kind: "amount", layer: null, name: "", value: 2 },
      { kept: [0, 3] },
      /every layer/,
    ],
    [
      "evens layers out at their mean",
      pruning([0, 3, 5, 7], [3, 5], { counts: "by-layer" }),
      { kind: "counts", value: "uniform" },
      { kept: [3, 5, 7] },
      /same number/,
    ],
    [
      "moves an expert into another group, and finds another dominant",
      merging("fold"),
      { kind: "regroup", layer: 1, expert: 6, to: 0 },
      {
        groups: [
          lone(1),
          { members: [0, 3, 4, 6], weights: [0.375, 0.225, 0.15, 0.25].map(near), dominant: 3 },
          { members: [2, 5, 7], weights: [0.5, 0.25, 0.25], dominant: 7 },
        ],
      },
      /joins the group of expert 3/,
    ],
    [
      "takes an expert out of its group where the router has a map",
      merging("map"),
      { kind: "regroup", layer: 1, expert: 4, to: null },
      { groups: [{ members: [0, 3], weights: [0.625, 0.375].map(near), dominant: 3 }, lone(4), {}, {}] },
      /stands alone/,
    ],
    ["turns to the next bits", quantised, { kind: "expert", layer: 1, expert: 0 }, { bits: 8 }, /layer 1 gets 8 bits/],
    ["sets bits", quantised, { kind: "amount", layer: 1, name: "", value: 3 }, { bits: 3 }, /layer 1: 3/],
    [
      "scales the shares of a layer to a mean",
      sparse,
      { kind: "amount", layer: 1, name: "", value: 0.25 },
      { keep: [0.2, 0.3, 0.25, 0.25, 0.25, 0.25, 0.25, 0.25] },
      /layer 1: 0.25/,
    ],
    [
      "scales shares up within 1",
      sparse,
      { kind: "amount", layer: 1, name: "", value: 0.75 },
      { keep: [0.7, 0.8, 0.75, 0.75, 0.75, 0.75, 0.75, 0.75] },
      /layer 1/,
    ],
  ];
  it.each(rows)("%s", (_name, text, edit, expected, said) => {
    const result = edited(text, edit);
    expect(layer1(result.plan)).toMatchObject(expected as object);
    expect(result.said).toMatch(said);
    expect(result.plan.notes).toEqual(["edited by hand"]);
  });

  it("takes the substitute from the same routing group", () => {
    const { plan } = edited(pruning([0, 3, 5, 7]), { kind: "expert", layer: 1, expert: 5 }, grouped);
    // Experts 4 to 7 are one group; 6 scores above 4. Expert 2, of the other group, scores above both.
    expect(layer1(plan)).toMatchObject({ kept: [0, 3, 6, 7] });
  });

  const refused: [string, string, PlanEdit, RegExp, typeof model][] = [
    [
      "fewer than the router selects",
      pruning([3, 5], undefined, { counts: "by-layer" }),
      { kind: "expert", layer: 1, expert: 3 },
      /keeps 1 experts of layer 1, but its router selects 2/,
      model,
    ],
    [
      "dropping where all are kept",
      pruning([0, 1, 2, 3, 4, 5, 6, 7]),
      { kind: "expert", layer: 1, expert: 3 },
      /Every expert of layer 1 is kept; lower the number/,
      model,
    ],
    [
      "a number that groups cannot share",
      pruning([0, 3, 5, 7]),
      { kind: "amount", layer: null, name: "", value: 5 },
      /keep a multiple of 2/,
      grouped,
    ],
    [
      "another number of groups in one layer of a folded router",
      merging("fold"),
      { kind: "regroup", layer: 1, expert: 4, to: null },
      /leaves 4 experts in layer 1 and 3 in layer 2/,
      model,
    ],
    [
      "where it is already",
      merging("map"),
      { kind: "regroup", layer: 1, expert: 4, to: 0 },
      /in that group already/,
      model,
    ],
    [
      "bits that the layout has not",
      quantised,
      { kind: "amount", layer: 1, name: "", value: 5 },
      /does not have/,
      model,
    ],
    ["a layer that is not there", quantised, { kind: "amount", layer: 7, name: "", value: 4 }, /layer 7/, model],
    ["what another kind of plan has", quantised, { kind: "counts", value: "uniform" }, /nothing to edit/, model],
    [
      "a substitute without scores",
      written({ paradigm: "pruning", method: "m", layers: { 1: { kept: [0, 1] }, 2: { kept: [0, 1] } } }),
      { kind: "expert", layer: 1, expert: 0 },
      /no scores for layer 1/,
      model,
    ],
  ];
  it.each(refused)("is refused: %s", (_name, text, edit, message, of) => {
    expect(() => editPlan(text, edit, of)).toThrow(
      expect.objectContaining({ code: "plan/invalid", message: expect.stringMatching(message) as string }) as Error,
    );
  });

  it("keeps the file's own order of keys and every other line", () => {
    const text = written({
      layers: { 2: { kept: [0, 1], scores }, 1: { kept: [0, 1], scores } },
      paradigm: "pruning",
      counts: "by-layer",
      method: "reap",
      notes: ["edited by hand"],
    });
    const { text: next } = editPlan(text, { kind: "expert", layer: 1, expert: 5 }, model);
    const [before, after] = [text.split("\n"), next.split("\n")];
    const added = after.filter((line) => !before.includes(line));
    expect(added.map((line) => line.trim())).toEqual(["5"]);
  });
});

describe("the view of a plan", () => {
  const view = (text: string, of: typeof model | null = model) =>
    viewOfPlan(planSchema.parse(JSON.parse(text)), of?.description ?? null);

  it("crosses out what leaves, and colours by score", () => {
    const { maps, amounts, counts, click } = view(pruning([0, 3]));
    expect(maps.map(({ id }) => id)).toEqual(["scores", "kept"]);
    expect(maps[0]).toMatchObject({ values: [...scores, ...scores], nullMeaning: "never routed, so no score" });
    expect(maps[1]!.crossed).toEqual([1, 2, 4, 5, 6, 7, 9, 10, 12, 13, 14, 15]);
    expect({ counts, click }).toEqual({ counts: "uniform", click: "keep" });
    expect(amounts).toEqual([
      { layer: null, name: "", value: 2, min: 2, max: 8, step: 1, choices: null, text: "2 of 8 experts" },
    ]);
  });

  it("shows merge groups by size, and who is folded into another", () => {
    const { maps, groups } = view(merging("fold"));
    expect(maps[0]!.values.slice(0, 8)).toEqual([3, 2, 3, 3, 3, 3, 2, 3]);
    expect(maps[0]!.crossed.slice(0, 5)).toEqual([0, 1, 2, 4, 5]);
    expect(groups[1]![1]).toEqual({ members: [1, 6], dominant: 6 });
  });

  it("has bits, shares and their amounts; without a checkpoint no amounts", () => {
    expect(view(quantised).maps[0]!.values).toEqual([4, 4, 4, 4, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8]);
    const measured = {
      bits: 4,
      group: 32,
      experts: [4, 8, 4, 4, 4, 4, 4, 4],
      losses: { "4": [1, 9, 1, 1, 1, 1, 1, 1] },
    };
    const mixed = JSON.parse(quantised) as { layers: object };
    const { maps } = view(JSON.stringify({ ...mixed, layers: { ...mixed.layers, 1: measured } }));
    expect(maps.map(({ id }) => id)).toEqual(["bits", "loss-4"]);
    expect(maps[0]!.values.slice(0, 3)).toEqual([4, 8, 4]);
    expect(maps[1]!.values.slice(0, 9)).toEqual([1, 9, 1, 1, 1, 1, 1, 1, null]);
    expect(view(quantised).amounts[1]).toMatchObject({ layer: 2, value: 8, choices: [2, 3, 4, 8] });
    expect(view(sparse).amounts.map(({ value }) => value)).toEqual([0.5, 0.5]);
    expect(view(pruning([0, 3]), null)).toMatchObject({ amounts: [], layers: [1, 2] });
  });
});

describe("a plan beside its checkpoint", () => {
  const folder = path.join(goldens, "qwen3_moe/checkpoint");

  it("has exact sizes, which follow its edits; the engine's own text comes back to the byte", async () => {
    const { description } = await openModel(folder);
    const moe = description.layers.flatMap(({ index, feedForward }) =>
      feedForward.kind === "moe" ? [{ index, feedForward }] : [],
    );
    const { numExperts } = moe[0]!.feedForward;
    const all = Array.from({ length: numExperts }, (_, e) => e);
    const layers = Object.fromEntries(moe.map(({ index }) => [index, { kept: all, scores: all }]));
    const text = written({ paradigm: "pruning", method: "reap", notes: ["edited by hand"], layers });
    const of = { checkpoint: folder };
    const before = await readPlanPage(text, of);
    expect(before.problem).toBeNull();
    expect(before.sizes!.planned).toEqual(before.sizes!.whole);

    const edit: PlanEdit = { kind: "amount", layer: null, name: "", value: numExperts - 1 };
    const { text: fewer } = await editPlanText(text, edit, of);
    const after = await readPlanPage(fewer, of);
    // Each layer loses one expert of three matrices and its router row.
    const [expert] = moe[0]!.feedForward.experts;
    const width = expert!.downProj.weight.shape.at(-1)!;
    const lost = moe.length * (3 * width + 1) * description.hiddenSize;
    expect(before.sizes!.whole.parameters - after.sizes!.planned!.parameters).toBe(lost);

    const { text: back } = await editPlanText(fewer, { ...edit, value: numExperts }, of);
    expect(back).toBe(text);
  });

  it("says why a plan does not fit, and shows it all the same", async () => {
    const page = await readPlanPage(pruning([0, 1]), { checkpoint: folder });
    expect(page.problem).toMatch(/layer 2|layers 0|no MoE layer/);
    expect(page.maps[0]!.values).toHaveLength(16);
    await expect(editPlanText(pruning([0, 1]), { kind: "counts", value: "by-layer" }, {})).rejects.toMatchObject({
      code: "plan/invalid",
      message: expect.stringContaining("choose one") as string,
    });
  });
});

function near(value: number): number {
  return expect.closeTo(value, 12) as number;
}
