import { describe, expect, it } from "vitest";
import { english } from "../../../src/protocol/translate";
import { comparisonLines } from "../../../src/extension/wizard/comparisonLines";
import { startOf } from "../../../src/extension/wizard/preflightLines";
import { comparisonRecipeOf } from "../../../src/extension/wizard/comparisonRecipeOf";
import type { Answers } from "../../../src/extension/wizard/questions";
import { comparisonRecipeSchema, type CellForecast } from "../../../src/protocol/compare";
import type { Preflight } from "../../../src/protocol/run";
import { checkpoint } from "./checkpoints";
import { gib, preflight } from "./preflights";

const answers: Answers = {
  methods: ["reap", "hc-smoe"],
  ratios: [0.5, 12],
  recovery: true,
  text: "/data/calibration.jsonl",
  heldOut: "/data/evaluation.jsonl",
  amount: { sequences: 100, sequenceLength: 256 },
};
const around = { name: "qwen", heldOutTokens: 256 * 10, memory: null, threads: 2, provider: "cpu" } as const;
const make = (changes: Answers = {}, summary = checkpoint()) =>
  comparisonRecipeOf({ purpose: "compareMethods", checkpoint: summary }, { ...answers, ...changes }, around);

describe("the comparison made of answers", () => {
  it("is a grid over the checkpoint, each cell before and after calibration", () => {
    const recipe = make();
    expect(recipe).toMatchObject({
      teacher: "/models/qwen",
      data: {
        calibration: "/data/calibration.jsonl",
        evaluation: "/data/evaluation.jsonl",
        sequences: 100,
        evaluationSequences: 10,
      },
      grid: { methods: ["reap", "hc-smoe"], keep: [0.5, 12] },
      calibrate: { learningRate: 5e-5 },
      threads: 2,
    });
    expect(recipe.memory).toBeUndefined();
    expect(comparisonRecipeSchema.parse(recipe)).toEqual(recipe);
  });

  it("leaves calibration out where compression alone is compared", () => {
    expect(make({ recovery: false }).calibrate).toBeUndefined();
  });

  it("calibrates small models with a rate that moves them", () => {
    expect(make({}, checkpoint({ parametersTotal: 4e6 })).calibrate?.learningRate).toBe(1e-3);
  });

  it.each<keyof Answers>(["methods", "ratios", "text", "heldOut", "amount"])("needs %s", (missing) => {
    const { [missing]: _, ...rest } = answers;
    expect(() => comparisonRecipeOf({ purpose: "compareMethods", checkpoint: checkpoint() }, rest, around)).toThrow(
      RangeError,
    );
  });
});

const cell = (id: string, changes: Partial<Preflight> = {}): CellForecast => ({
  id,
  method: "reap",
  keep: 0.5,
  preflight: preflight(changes),
  error: null,
});
const broken: CellForecast = {
  id: "mobe-0.5",
  method: "mobe",
  keep: 0.5,
  preflight: null,
  error: { code: "arguments/invalid", message: "no option magic" },
};
const linesOf = (cells: CellForecast[]) =>
  comparisonLines({ seconds: 7300, cells }, make(), "/runs/grid", english).map(
    ({ kind, label, description }) => `${kind} ${label}: ${description}`,
  );

describe("what is shown before a comparison starts", () => {
  it("says the grid, time, memory, disk and every cell", () => {
    const cells = [
      cell("reap-0.5", { warnings: ["the texts are short"] }),
      cell("reap-12", { peakMemoryBytes: 7 * gib, warnings: ["the texts are short"] }),
    ];
    expect(linesOf(cells)).toEqual([
      "fact Grid: 2 cells: 2 methods, 2 ratios, before and after Router KD",
      "fact Time: about 2 h 02 min, with one profile and one teacher for all cells",
      "fact Memory: peak 7.00 GiB of a budget of 8.00 GiB",
      "fact Disk: up to 80.0 GiB needed, 100 GiB free",
      "fact Folder: /runs/grid",
      "fact reap-0.5: 19.0 B parameters, 38.0 GiB, 1 h 10 min if it were alone",
      "fact reap-12: 19.0 B parameters, 38.0 GiB, 1 h 10 min if it were alone",
      "warning Warning: the texts are short",
    ]);
  });

  it("shows the texts once", () => {
    const sequence = { text: "once", tokens: 4, special: 1, padding: 0, domains: ["all"] };
    const texts = [{ role: "calibration" as const, path: "c", wanted: 8, sequences: [sequence, sequence], notes: [] }];
    const lines = linesOf([cell("reap-0.5", { texts }), cell("reap-12")]);
    expect(lines.filter((line) => line.includes("tokens count"))).toEqual([
      "fact Calibration text: 4 tokens count, 1 of them special; 0 of padding do not: once",
    ]);
  });

  it("a cell that would be refused is a warning; the others can start", () => {
    const lines = linesOf([cell("reap-0.5"), broken]);
    expect(lines).toContain("warning mobe-0.5 would be refused: no option magic (arguments/invalid)");
    expect(lines.some((line) => line.startsWith("refusal"))).toBe(false);
    expect(lines.some((line) => line.startsWith("fact mobe"))).toBe(false);
  });

  it("a grid whose cells are all refused for what they trained on may be forced", () => {
    const trainedOn = {
      code: "data/trained-on",
      message: "the evaluation text is the calibration text itself",
    } as const;
    const refused = (id: string) => cell(id, { refusals: [trainedOn] });
    const startOfGrid = (cells: CellForecast[]) =>
      startOf(comparisonLines({ seconds: 1, cells }, make(), "/runs/grid", english));
    expect(startOfGrid([refused("reap-0.5"), refused("reap-12")])).toBe("force");
    expect(startOfGrid([refused("reap-0.5"), broken])).toBeNull();
    expect(startOfGrid([refused("reap-0.5"), cell("aimer-0.5")])).toBe("start");
  });

  it("a grid of such cells alone cannot start", () => {
    const refused = cell("reap-0.5", { refusals: [{ code: "preflight/disk", message: "39 GiB are missing" }] });
    expect(linesOf([refused, broken]).filter((line) => line.startsWith("refusal"))).toEqual([
      "refusal Cannot start: 39 GiB are missing (preflight/disk)",
      "refusal Cannot start: no option magic (arguments/invalid)",
    ]);
    expect(linesOf([broken]).some((line) => line.includes("Memory"))).toBe(false);
  });

  it("warns where the cells fit one by one, and not together", () => {
    expect(linesOf([cell("a"), cell("b"), cell("c")]).join()).toContain("may need more disk than is free");
  });
});
