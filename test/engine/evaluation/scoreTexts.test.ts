import { expect, test } from "vitest";
import { scoreTexts } from "../../../src/engine/evaluation/scoreTexts";
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
const promptLengths = [5, 1];

/** ln softmax of a row of logits, in double. */
function logProbabilities(logits: readonly number[], row: number, width: number): number[] {
  const own = logits.slice(row * width, (row + 1) * width);
  const largest = Math.max(...own);
  const total = Math.log(own.reduce((sum, value) => sum + Math.exp(value - largest), 0)) + largest;
  return own.map((value) => value - total);
}

test.each(daily(1, taughtFamilies))("%s: loss, KL and routing of each token are PyTorch's", async (family) => {
  const [teacher, student] = [await openTeacher(family), await openStudent(family)];
  const [routing, losses] = [await distillationGolden(family, "routing"), await distillationGolden(family, "losses")];
  const { ids, sequenceLength, lengths } = goldenTokens(losses);
  const texts = promptLengths.map((promptTokens, s) => ({
    ids: ids.slice(s * sequenceLength, s * sequenceLength + lengths[s]!),
    promptTokens,
  }));
  const seen: [number, number][] = [];
  // The teacher need not come first.
  const scored = await scoreTexts({
    ...{ models: [student, teacher], teacher: 1, texts, mappings: [null, null], runtime },
    ...{ scratchDirectory: temporaryFolder(), onTokens: (done, total) => seen.push([done, total]) },
  });
  const width = routing.get("topk.logits")!.shape[2]!;
  const logits = [losses.get("logits")!.values, routing.get("topk.logits")!.values];
  const near = (actual: number, expected: number, what: string) =>
    expect(Math.abs(actual - expected), what).toBeLessThan(2e-3 * Math.abs(expected) + 2e-6);
  for (const [t, text] of texts.entries()) {
    const [ofStudent, ofTeacher] = scored[t]!;
    expect(ofTeacher!.kl).toBeNull();
    expect(ofStudent!.routing).toEqual([]);
    expect(ofStudent!.kl).toHaveLength(text.ids.length - text.promptTokens);
    for (let p = text.promptTokens; p < text.ids.length; p++) {
      const [q, own] = logits.map((values) => logProbabilities(values, t * sequenceLength + p - 1, width));
      const at = p - text.promptTokens;
      const kl = own!.reduce((sum, ln, v) => sum + Math.exp(ln) * (ln - q![v]!), 0);
      near(ofStudent!.kl![at]!, kl, `KL at ${p}`);
      near(ofStudent!.nll[at]!, -q![text.ids[p]!]!, `loss of the student at ${p}`);
      near(ofTeacher!.nll[at]!, -own![text.ids[p]!]!, `loss of the teacher at ${p}`);
    }
    // Its correction bias chooses by more than probabilities.
    if (family === "deepseek_v3") continue;
    for (const { layer, numExperts, numExpertsPerToken: k, experts, weights } of ofTeacher!.routing) {
      const { values } = routing.get(`probabilities.${layer}`)!;
      for (let p = text.promptTokens; p < text.ids.length; p++) {
        const own = values.slice((t * sequenceLength + p) * numExperts).slice(0, numExperts);
        const order = [...own.keys()].sort((a, b) => own[b]! - own[a]!).slice(0, k);
        const at = (p - text.promptTokens) * k;
        expect(experts.slice(at, at + k)).toEqual(order);
        // Whether they are renormalised or not.
        order.forEach((e, slot) =>
          near(weights[at + slot]! / weights[at]!, own[e]! / own[order[0]!]!, `weight at ${p}`),
        );
      }
    }
  }
  expect(seen.at(-1)).toEqual([4 * sequenceLength, 4 * sequenceLength]);
});

test("a model is no further from itself than rounding, and says what its experts stand for", async () => {
  const teacher = await openTeacher("qwen3_moe");
  const { ids } = goldenTokens(await distillationGolden("qwen3_moe", "losses"));
  const swapped = { "0": Array.from({ length: 8 }, (_, e) => [7 - e]), "1": Array.from({ length: 8 }, (_, e) => [e]) };
  const [[own, same]] = (await scoreTexts({
    ...{ models: [teacher, teacher], teacher: 0, mappings: [null, swapped], runtime },
    ...{ texts: [{ ids: ids.slice(0, 12), promptTokens: 4 }], scratchDirectory: temporaryFolder() },
  })) as [[Awaited<ReturnType<typeof scoreTexts>>[0][0], Awaited<ReturnType<typeof scoreTexts>>[0][0]]];
  expect(Math.max(...same.kl!)).toBeLessThan(1e-6);
  expect(Math.min(...same.kl!)).toBeGreaterThanOrEqual(0);
  expect(same.nll).toEqual(own.nll.map((value) => expect.closeTo(value, 5) as number));
  expect(same.routing.map(({ experts }) => experts)).toEqual(own.routing.map(({ experts }) => experts));
  expect(same.routing[0]!.teacherExperts).toEqual(swapped["0"]);
  expect(same.routing[1]!.teacherExperts).toBeNull();
});

test("cancelled is cancelled, also between models", async () => {
  const teacher = await openTeacher("qwen3_moe");
  const stop = new AbortController();
  const scoring = scoreTexts({
    ...{ models: [teacher, teacher], teacher: 0, mappings: [null, null], runtime, signal: stop.signal },
    ...{ texts: [{ ids: Int32Array.of(1, 2, 3), promptTokens: 1 }], scratchDirectory: temporaryFolder() },
    onTokens: () => stop.abort(),
  });
  await expect(scoring).rejects.toMatchObject({ code: "cancelled" });
});
