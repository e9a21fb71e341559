import { expect, test } from "vitest";
import { probeExperts } from "../../../src/engine/evaluation/expertProbe";
import { nextTokens } from "../../../src/engine/execution/batches";
import {
  distillationGolden,
  goldenTokens,
  openStudent,
  openTeacher,
  taughtFamilies,
} from "../../support/distillationGoldens";
import { daily } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;

/** ln softmax of each row of logits, in double. */
function logProbabilities(logits: readonly number[], width: number): Float64Array {
  const result = Float64Array.from(logits);
  for (let from = 0; from < result.length; from += width) {
    const row = result.subarray(from, from + width);
    const largest = Math.max(...row);
    const total = Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest;
    row.forEach((value, i) => (row[i] = value - total));
  }
  return result;
}

test.each(daily(1, ["olmoe", "deepseek_v3", ...taughtFamilies.slice(0, 2)] as const))(
  "%s: losses, KL and activated mass by active experts are those of PyTorch's logits",
  async (family) => {
    const [teacher, student] = [await openTeacher(family), await openStudent(family)];
    const [routing, losses] = [await distillationGolden(family, "routing"), await distillationGolden(family, "losses")];
    const sequences = goldenTokens(losses);
    const active = [...routing.keys()].flatMap((name) => /^top(\d+)\.logits$/.exec(name)?.[1] ?? []).map(Number);
    const scratchDirectory = temporaryFolder();
    const found = await probeExperts({ teacher, student, sequences, active, runtime, scratchDirectory });

    const { labels, isTarget } = nextTokens(sequences);
    const width = routing.get("topk.logits")!.shape[2]!;
    const rows = [...isTarget.keys()].filter((row) => isTarget[row] === 1);
    const mean = (of: (row: number) => number) => rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
    const loss = (q: Float64Array) => mean((row) => -q[row * width + labels[row]!]!);
    const kl = (p: Float64Array, q: Float64Array) =>
      mean((row) => {
        let sum = 0;
        for (let i = row * width; i < (row + 1) * width; i++) sum += Math.exp(p[i]!) * (p[i]! - q[i]!);
        return sum;
      });
    const own = logProbabilities(routing.get("topk.logits")!.values, width);
    const learner = logProbabilities(losses.get("logits")!.values, width);
    const near = (actual: number, expected: number, what: string) =>
      expect(Math.abs(actual - expected), what).toBeLessThan(1e-3 * Math.abs(expected) + 1e-6);
    expect(found.rows.map((row) => row.active)).toEqual(active);
    for (const row of found.rows) {
      const p = logProbabilities(routing.get(`top${row.active}.logits`)!.values, width);
      near(row.loss.mean, loss(p), `loss of ${row.active}`);
      near(row.klToOwn.mean, kl(own, p), `KL to ${row.active}`);
      near(row.klOfStudent!.mean, kl(p, learner), `KL of ${row.active} to the student`);
    }
    near(found.studentLoss!.mean, loss(learner), "the student's loss");
    const valid = losses.get("valid")!.values;
    for (const { layer, activated, sorted } of found.gateMass) {
      const golden = routing.get(`activatedMass.${layer}`)!.values.filter((_, token) => valid[token] === 1);
      near(activated, golden.reduce((sum, value) => sum + value, 0) / golden.length, `mass of layer ${layer}`);
      near(
        sorted.reduce((sum, value) => sum + value, 0),
        1,
        `all of layer ${layer}`,
      );
      expect([...sorted].sort((a, b) => b - a)).toEqual(sorted);
    }
  },
);

test("more experts than there are are refused before anything runs", async () => {
  const [teacher, sequences] = [await openTeacher("olmoe"), goldenTokens(await distillationGolden("olmoe", "losses"))];
  const scratchDirectory = temporaryFolder();
  const options = { teacher, student: null, sequences, active: [2, 9], runtime, scratchDirectory };
  await expect(probeExperts(options)).rejects.toThrow(/9 active experts .* has 8/);
});

test.each([
  ["the student's", "student"],
  ["the teacher's", "teacher"],
] as const)(
  "where %s vocabulary lacks padding rows, both are cut to the tokens that both have",
  async (_, narrower) => {
    const models = { teacher: await openTeacher("olmoe"), student: await openStudent("olmoe") };
    const [routing, losses] = [
      await distillationGolden("olmoe", "routing"),
      await distillationGolden("olmoe", "losses"),
    ];
    const whole = routing.get("topk.logits")!;
    const [width, cut] = [whole.shape[2]!, 157];
    // Each sequence up to its first token that only the wider vocabulary has.
    const { ids, lengths, sequenceLength, ...rest } = goldenTokens(losses);
    const shorter = Int32Array.from(lengths, (length, s) => {
      const first = ids.subarray(s * sequenceLength, s * sequenceLength + length).findIndex((id) => id >= cut);
      return first < 0 ? length : first;
    });
    const cutIds = ids.map((id, i) => (i % sequenceLength < shorter[Math.floor(i / sequenceLength)]! ? id : 0));
    const sequences = { ...rest, sequenceLength, ids: cutIds, lengths: shorter };
    const { description } = models[narrower];
    const { head } = description;
    const weight = { ...head.weight, shape: [cut, description.hiddenSize] };
    models[narrower] = {
      ...models[narrower],
      description: { ...description, vocabSize: cut, head: { ...head, weight } },
    };
    const found = await probeExperts({
      ...{ ...models, sequences, active: [2], runtime, scratchDirectory: temporaryFolder() },
    });
    const { isTarget } = nextTokens(sequences);
    expect(isTarget.filter((one) => one === 1).length).toBeGreaterThan(10);
    const cutRows = ({ values }: { values: readonly number[] }) =>
      logProbabilities(
        values.filter((_value, i) => i % width < cut),
        cut,
      );
    const [p, q] = [cutRows(whole), cutRows(losses.get("logits")!)];
    let [sum, count] = [0, 0];
    for (const [row, counts] of isTarget.entries()) {
      if (counts === 0) continue;
      count++;
      for (let i = row * cut; i < (row + 1) * cut; i++) sum += Math.exp(p[i]!) * (p[i]! - q[i]!);
    }
    expect(Math.abs(found.rows[0]!.klOfStudent!.mean - sum / count)).toBeLessThan((1e-3 * sum) / count);
  },
);
