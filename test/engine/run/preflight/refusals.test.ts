import { cp, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { runPaths } from "../../../../src/engine/run/folder/runFolder";
import { preflight } from "../../../../src/engine/run/preflight/preflight";
import { recipeSchema } from "../../../../src/protocol/recipe";
import { writeSparseCheckpoint } from "../../../support/sparseCheckpoint";
import { temporaryFolder } from "../../../support/temporaryFolder";

const coarse = path.join(__dirname, "../../../fixtures/coarse");
const fine = path.join(__dirname, "../../../../media/sample/checkpoint");
const folder = temporaryFolder();
const words = "the quick brown fox jumps over the lazy dog and runs far away from here ";
const line = (text: string) => `${JSON.stringify({ text })}\n`;

beforeAll(async () => {
  const bare = path.join(folder, "no-tokenizer");
  await mkdir(bare);
  for (const name of ["config.json", "model.safetensors"]) await cp(path.join(coarse, name), path.join(bare, name));
  // One layer of Mixtral 8x7B.
  writeSparseCheckpoint(
    path.join(folder, "mixtral"),
    "mixtral",
    {
      ...{ hiddenSize: 4096, numLayers: 1, numExperts: 8, numExpertsPerToken: 2, moeIntermediateSize: 14336 },
      ...{ numHeads: 32, numKeyValueHeads: 8, headDim: 128, vocabSize: 2048 },
    },
    coarse,
  );
  const odd = { hiddenSize: 32, numLayers: 1, numExperts: 4, numExpertsPerToken: 2, moeIntermediateSize: 30 };
  const heads = { numHeads: 2, numKeyValueHeads: 2, headDim: 16, vocabSize: 2048 };
  writeSparseCheckpoint(path.join(folder, "odd"), "mixtral", { ...odd, ...heads }, coarse);
  await writeFile(path.join(folder, "long.jsonl"), line(words.repeat(40)).repeat(4));
  await writeFile(path.join(folder, "broken.jsonl"), `${line(words).repeat(6)}{"text": "no end\n${line(words)}`);
  await writeFile(path.join(folder, "short.txt"), words.repeat(3));
  await writeFile(path.join(folder, "two.txt"), words.repeat(6));
});

const of = (change: { data?: object; [key: string]: unknown }) =>
  preflight(
    recipeSchema.parse({
      schemaVersion: 1,
      teacher: coarse,
      compress: { method: "reap", keep: 0.625 },
      output: "out",
      ...change,
      data: { calibration: "long.jsonl", sequences: 4, sequenceLength: 32, ...change.data },
    }),
    folder,
    { runDirectory: path.join(folder, "run") },
  );

const hcSmoe = (options: object) => ({
  teacher: "mixtral",
  memory: "24GiB",
  compress: { method: "hc-smoe", keep: 0.5, options },
});

describe("refused before anything starts", () => {
  const rows: [string, Parameters<typeof of>[0], string, RegExp][] = [
    ["no tokenizer", { teacher: "no-tokenizer" }, "data/tokenizer", /copy tokenizer\.json beside config\.json/],
    [
      "a broken line",
      { data: { calibration: "broken.jsonl", sequences: 8 } },
      "data/malformed",
      /line 7 of .*broken\.jsonl/,
    ],
    ["a broken line of the held-out text", { data: { evaluation: "broken.jsonl" } }, "data/malformed", /line 7 of/],
    [
      "too little text, with what would fit",
      { data: { calibration: "short.txt", sequenceLength: 512 } },
      "data/too-few-tokens",
      /short\.txt gives \d\d tokens, which is 0 sequences of 512.*sequences of up to \d\d tokens/,
    ],
    ["a preview that calibrates", { precision: "preview", calibrate: {} }, "recipe/invalid", /precision preview/],
    [
      "a preview elsewhere than on the CPU",
      { precision: "preview", provider: "cuda" },
      "arguments/invalid",
      /computes on the CPU, and the execution provider is cuda/,
    ],
    [
      "an evaluation alone that compresses",
      { evaluateOnly: true, data: { evaluation: "long.jsonl" } },
      "recipe/invalid",
      /evaluateOnly names an evaluation text, and neither compresses nor calibrates/,
    ],
    [
      "a student that is built and compressed",
      { student: { build: {} }, calibrate: { scope: "all" } },
      "recipe/invalid",
      /builds a dense student of the teacher, and compresses the teacher, too/,
    ],
    [
      "a student of more experts than there are",
      { compress: undefined, student: { build: { experts: 9 } }, calibrate: { scope: "all" } },
      "arguments/invalid",
      /9 experts were asked for, but layer 0 has 8; choose at most 8/,
    ],
    [
      "routers of a student that is built without any",
      { compress: undefined, student: { build: {} }, calibrate: {} },
      "arguments/invalid",
      /this mistral student is dense: it has no routers; use feed-forward or all/,
    ],
    [
      "an evaluation alone that builds",
      { evaluateOnly: true, compress: undefined, student: { build: {} }, data: { evaluation: "long.jsonl" } },
      "recipe/invalid",
      /evaluateOnly names an evaluation text/,
    ],
    [
      "experts compressed of a student that has none",
      { compress: undefined, student: { build: {} }, steps: [{ compress: { method: "reap", keep: 0.5 } }] },
      "recipe/invalid",
      /the dense student that is built first has none/,
    ],
    [
      "an evaluation alone of no text",
      { evaluateOnly: true, compress: undefined },
      "recipe/invalid",
      /evaluateOnly names an evaluation text/,
    ],
    [
      "nothing to hold out",
      { calibrate: {}, data: { calibration: "two.txt", sequenceLength: 128 } },
      "data/too-few-tokens",
      /which is 1 sequences of 128, but one sequence to train on and one that is held out are needed/,
    ],
    [
      "2:4 on a width that is no multiple of 4",
      { teacher: "odd", compress: { method: "wanda", keep: 0.5, options: { pattern: "2:4" } } },
      "plan/invalid",
      /the intermediate size, the inputs of down, of layer 0 is 30, no multiple of 4; use pattern=unstructured/,
    ],
    [
      "a group that does not divide the width",
      { teacher: "odd", compress: { method: "rtn", options: { group: 32 } } },
      "plan/invalid",
      /a group of 32 inputs does not divide the width 30; use group=0/,
    ],
    [
      "bits below the smallest choice",
      {
        teacher: "odd",
        compress: { method: "gptq", options: { group: 0, allocate: "evoesap", widths: "4,8", budget: 3 } },
      },
      "plan/invalid",
      /The budget is \d+ bytes for all experts, and their smallest widths take \d+; raise budget, or allow smaller widths/,
    ],
    [
      "too little held-out text",
      { data: { evaluation: "short.txt", sequenceLength: 256 } },
      "data/too-few-tokens",
      /short\.txt/,
    ],
  ];
  it.each(rows)("%s", async (_name, change, code, message) => {
    const { refusals } = await of(change);
    expect(refusals.map((refusal) => refusal.code)).toEqual([code]);
    expect(refusals[0]!.message).toMatch(message);
    expect(await readdir(folder)).not.toContain("run");
  });

  it("a method that needs more than the budget, with the option and the budget that are enough", async () => {
    const { refusals } = await of(hcSmoe({}));
    expect(refusals.map(({ code }) => code)).toEqual(["preflight/memory"]);
    const said = refusals[0]!.message;
    expect(said).toMatch(/compressing by hc-smoe needs \d+\.\d+ GiB at its peak/);
    const [, option, value] = /use the option (\w+)=(\S+)/.exec(said)!;
    const [, memory] = /--memory (\d+MiB)/.exec(said)!;
    expect((await of(hcSmoe({ [option!]: Number(value) || value }))).refusals).toEqual([]);
    expect((await of({ ...hcSmoe({}), memory })).refusals).toEqual([]);
  });
});

describe("models of the Hugging Face cache", () => {
  const cache = path.join(folder, "hub");
  const snapshot = path.join(cache, "models--org--coarse/snapshots/one");
  beforeAll(async () => {
    await mkdir(path.dirname(snapshot), { recursive: true });
    await symlink(coarse, snapshot);
    vi.stubEnv("HF_HUB_CACHE", cache);
  });
  afterAll(() => vi.unstubAllEnvs());

  it("are teacher, student and tokenizer by their names", async () => {
    const named = { teacher: "org/coarse", student: "org/coarse@one", compress: undefined };
    const { refusals, parametersBefore } = await of({ ...named, data: { tokenizer: "org/coarse" } });
    expect(refusals).toEqual([]);
    expect(parametersBefore).toBe((await of({})).parametersBefore);
    const recipe = recipeSchema.parse({ ...named, schemaVersion: 1, data: { calibration: "t" }, output: "out" });
    const paths = await runPaths(path.join(folder, "run"), recipe, folder);
    expect(paths).toMatchObject({ teacher: snapshot, student: snapshot, tokenizer: snapshot });
  });

  it.each(["teacher", "student"])("that are not there are refused, a %s with both places", async (role) => {
    const { refusals } = await of({ compress: undefined, [role]: "org/none" });
    expect(refusals.map(({ code }) => code)).toContain("checkpoint/not-found");
    expect(refusals[0]!.message).toContain(path.join(folder, "org/none"));
    expect(refusals[0]!.message).toContain(`cache ${cache} a model org/none`);
  });
});

describe("text", () => {
  it("that is shorter than asked for is a warning with the number there is", async () => {
    const { warnings, refusals } = await of({ data: { sequences: 4000 } });
    expect(refusals).toEqual([]);
    expect(warnings).toContainEqual(expect.stringMatching(/has text for 125 of the 4000 sequences of 32 tokens/));
  });

  it.each<[string, object, RegExp | null]>([
    ["of few documents", { evaluationSequences: 40 }, /gives 40 sequences of 2 documents, and a verdict needs 20/],
    ["of few sequences", { packing: "truncated", evaluation: "many.jsonl", evaluationSequences: 19 }, /gives 19 seq/],
    ["of enough documents", { evaluation: "many.jsonl", evaluationSequences: 20 }, null],
  ])("%s that a verdict is to be given on", async (_name, data, message) => {
    const one = line(words.slice(0, words.lastIndexOf(" ")));
    await writeFile(path.join(folder, "many.jsonl"), one.repeat(30));
    const evaluated = { evaluation: "long.jsonl", ...data };
    const { warnings } = await of({ calibrate: { epochs: 1 }, data: evaluated });
    const said = warnings.filter((text) => text.includes("too little text"));
    expect(said).toEqual(message === null ? [] : [expect.stringMatching(message)]);
  });

  it("that no open stage reads is not looked at", async () => {
    const data = { calibration: "broken.jsonl", evaluation: "long.jsonl" };
    const student = path.join(folder, "student");
    await cp(coarse, student, { recursive: true });
    const { refusals } = await of({ compress: undefined, student, data });
    await rm(student, { recursive: true });
    expect(refusals).toEqual([]);
  });
});

describe("warned of before anything starts", () => {
  const long = { calibration: "long.jsonl", sequences: 1 };
  const rows: [string, Parameters<typeof of>[0], RegExp | null][] = [
    [
      "a count that servers cannot place",
      { compress: { method: "random", keep: 0.9 } },
      /^7 experts a layer .* --multiple-of 8 .* finds no count that fits: .*drops none of the 8/,
    ],
    [
      "such a count that can be rounded",
      { teacher: fine, compress: { method: "random", keep: 0.7 } },
      /^22 experts a layer .* --multiple-of 8 \(multipleOf in a recipe\) would keep 24$/,
    ],
    [
      "what rounding changes",
      { teacher: fine, compress: { method: "random", keep: 0.7, multipleOf: 8 } },
      /^keep 0.7 means 22 of 32 experts a layer; 24 stay, the nearest multiple of 8$/,
    ],
    ["a multiple that fits", { teacher: fine, compress: { method: "random", keep: 0.5, multipleOf: 8 } }, null],
    ["merged to such a count", { compress: { method: "m-smoe", keep: 3 } }, /^3 experts a layer/],
    ["slots that stay", { compress: { method: "m-smoe", keep: 3, options: { router: "duplicate" } } }, null],
    ["experts that stay", { compress: { method: "svd", keep: 0.5 } }, null],
    [
      "sequences beyond the model's positions",
      { compress: undefined, data: { ...long, sequenceLength: 3000 } },
      /positions of this model/,
    ],
    ["sequences within them", { compress: undefined, data: { ...long, sequenceLength: 64 } }, null],
  ];
  it.each(rows)("%s", async (_name, change, message) => {
    const { warnings, refusals } = await of(change);
    expect(refusals).toEqual([]);
    const said = warnings.filter((text) => /experts a layer|positions/.test(text));
    if (message === null) expect(said).toEqual([]);
    else expect(said).toEqual([expect.stringMatching(message)]);
  });
});
