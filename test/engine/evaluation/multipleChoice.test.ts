import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { choiceSequences, readChoiceItems, type ChoiceItem } from "../../../src/engine/data/choiceItems";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { choiceLogLikelihoods, compareTasks, scoreTask } from "../../../src/engine/evaluation/multipleChoice";
import { openModel } from "../../../src/engine/run/modelCache";
import { temporaryFolder } from "../../support/temporaryFolder";

const coarse = path.join(__dirname, "../../fixtures/coarse");
const items: ChoiceItem[] = [
  {
    context: "And God said, Let there be",
    choices: [" light", " darkness upon the face of the deep", " a king"],
    gold: 1,
  },
  // Spaces at the end of a context count to the choice.
  { context: "the king of ", choices: ["Israel", "Egypt and all his servants"], gold: 0 },
  { context: "In the beginning", choices: [" was the word", " God created the heaven", " xylophone"], gold: 0 },
];
/** transformers 5.18 in float32, the pairs encoded as lm-evaluation-harness encodes them. */
const reference = [
  [-9.61622756762582, -32.34496024586501, -7.37663609245608],
  [-2.6444404011708977, -17.001960862531252],
  [-16.006433036431826, -29.677970224490306, -42.66293224413407],
];

test("log-likelihoods of choices are those of transformers, whatever the chunks", async () => {
  const options = {
    model: await openModel(coarse),
    ...{ teacher: null, expertMapping: null, residentBytes: () => 0, scratchDirectory: temporaryFolder() },
    sequences: choiceSequences(items, await loadTokenizer(coarse), 64).sequences,
    runtime: { threads: 1, provider: "cpu" as const, memoryBudgetBytes: 2 ** 30 },
  };
  const found = await choiceLogLikelihoods(options, { path: "", items, tokenizer: await loadTokenizer(coarse) });
  for (const [i, row] of reference.entries())
    for (const [c, value] of row.entries()) expect(found[i]![c]).toBeCloseTo(value, 3);
});

test("accuracy takes the largest log-likelihood, by characters where it is normalised, and differences are paired", () => {
  const scored = scoreTask(items, reference);
  // By hand: -7.38 > -9.62 > -32.3; by characters of the choice -32.3 / 34 > -7.38 / 6 > -9.62 / 5.
  expect(scored.perItem).toEqual({ correct: [0, 1, 1], normalised: [1, 1, 1] });
  expect(scored.accuracy.mean).toBeCloseTo(2 / 3, 12);
  const other = { path: "", ...scored, perItem: { correct: [1, 1, 1], normalised: [0, 1, 1] } };
  const change = compareTasks({ path: "", ...scored }, other, 1);
  expect([change.accuracy.mean, change.accuracyNormalised.mean]).toEqual([1 / 3, -1 / 3]);
  const none = compareTasks(other, other, 1).accuracy;
  expect(none).toEqual({ mean: 0, interval95: [0, 0] });
});

test("a long context loses its beginning, never the choice", async () => {
  const tokenizer = await loadTokenizer(coarse);
  const long = [
    { context: "the king of Israel went up to Jerusalem with", choices: [" all", " his servants"], gold: 0 },
  ];
  const whole = choiceSequences(long, tokenizer, 64);
  const cut = choiceSequences(long, tokenizer, 5);
  for (const s of [0, 1]) {
    const tokens = (of: typeof whole) =>
      of.sequences.ids.slice(
        s * of.sequences.sequenceLength,
        s * of.sequences.sequenceLength + of.sequences.lengths[s]!,
      );
    expect([...tokens(cut)]).toEqual([...tokens(whole)].slice(-5));
    expect(5 - cut.spans[s]!.from).toBe(whole.sequences.lengths[s]! - whole.spans[s]!.from);
  }
});

const plain = { context: "a", choices: [" b", " c"], gold: 1 };
const logged = {
  doc_id: 0,
  target: "1",
  arguments: { gen_args_0: { arg_0: "a", arg_1: " b" }, gen_args_1: { arg_0: "a", arg_1: " c" } },
};
const rows: [string, unknown, RegExp | null][] = [
  ["the three keys", plain, null],
  ["a sample that lm-evaluation-harness logged", logged, null],
  [
    "a sample with pairs",
    {
      target: 1,
      arguments: [
        ["a", " b"],
        ["a", " c"],
      ],
    },
    null,
  ],
  ["no context", { ...plain, context: 1 }, /no text as "context"/],
  ["one choice", { ...plain, choices: [" b"] }, /two or more texts/],
  ["a right choice that there is not", { ...plain, gold: 2 }, /from 0 to 1/],
];
test.each(rows)("reads or refuses by its row: %s", async (_what, row, problem) => {
  const file = path.join(temporaryFolder(), "task.jsonl");
  writeFileSync(file, `${JSON.stringify(row)}\n`);
  if (problem === null) expect(await readChoiceItems(file)).toEqual([plain]);
  else
    await expect(readChoiceItems(file)).rejects.toMatchObject({
      code: "data/malformed",
      message: expect.stringMatching(problem) as unknown,
    });
});
