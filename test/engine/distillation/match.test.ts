import path from "node:path";
import { describe, expect, test } from "vitest";
import { lossAndGradients } from "../../../src/engine/distillation/losses";
import { calibrate } from "../../../src/engine/distillation/calibrate";
import { expertTargets, expertTerm, targetEnergy } from "../../../src/engine/distillation/match/expertTerm";
import { MatchingTeacher } from "../../../src/engine/distillation/match/matchingTeacher";
import { matchMapping, type MatchWeights } from "../../../src/engine/distillation/match/matchMapping";
import { routerTerm, teacherProbabilities } from "../../../src/engine/distillation/match/routerTerm";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { TeacherTargets } from "../../../src/engine/distillation/teacherTargets";
import { tokenBatch } from "../../../src/engine/execution/batches";
import { MemoryHiddenStates } from "../../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { moeLayers } from "../../../src/engine/model/moeLayers";
import { Tape } from "../../../src/engine/execution/tape";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import type { WeightView } from "../../../src/engine/model/description";
import type { OpenModel } from "../../../src/engine/run/work";
import type { TokenSequences } from "../../../src/engine/data/sequences";
import type { MetricsLine } from "../../../src/protocol/metrics";
import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { expectError } from "../checkpoint/fixtures";
import { goldenCheckpoint, readGoldenFile, goldenCase, relativeToLargest, type Golden } from "../../support/goldens";
import {
  distillationGolden,
  goldenTokens,
  openStudent,
  openTeacher,
  taughtFamilies,
  type TaughtFamily,
} from "../../support/distillationGoldens";
import { writeMergedStudent } from "../../support/mergedStudent";
import { isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel, randomSequences, writeGoldenStudent } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;
const terms = { routerKl: "router", experts: "experts", feedForward: "feedForward" } as const;

type Mapping = Record<string, number[][]>;

/** The student of a golden, and the teacher's experts behind each of its own. */
async function studentOf(family: TaughtFamily, name: "pruned" | "merged"): Promise<[OpenModel, Mapping]> {
  const folder = path.join(temporaryFolder(), "student");
  const student =
    name === "pruned"
      ? await writeGoldenStudent(family, folder)
      : await writeMergedStudent(goldenCheckpoint(family), folder);
  const kept = await readGoldenFile(goldenCase(family).golden);
  const members = moeLayers(student.description).map(({ layer: index, moe: { numExperts } }): [string, number[][]] => [
    String(index),
    name === "pruned"
      ? kept.get(`kept.${index}`)!.values.map((e) => [e])
      : Array.from({ length: numExperts }, (_, g) => [2 * g, 2 * g + 1]),
  ]);
  return [student, Object.fromEntries(members)];
}

/** Opens both sides and gives a term's loss alone, with its gradients by key. */
async function opened(
  teacher: Pick<OpenModel, "checkpoint" | "description">,
  student: OpenModel,
  match: MatchWeights,
  expertMapping: Mapping | null,
) {
  const scratchDirectory = temporaryFolder();
  const common = { sequenceLength: 24, runtime, scratchDirectory };
  const isDense = moeLayers(student.description).length === 0;
  const scope = isDense ? "all" : match.experts === undefined ? "router" : "router+experts";
  const trainable = new Set(trainableWeights(student.description, scope).map(({ key }) => key));
  const matching = await MatchingTeacher.open({ ...common, teacher, student, match, expertMapping });
  const executor = await ModelExecutor.open({ ...student, ...common, direction: "backward", trainable });
  const run = async (sequences: TokenSequences) => {
    const tape = new Tape();
    const batch = await matching.batch(sequences, executor);
    const hidden = await executor.forward(tokenBatch(sequences), { tape, onFeedForward: batch.onFeedForward });
    const zero = new MemoryHiddenStates(hidden.numTokens, hidden.width);
    const { routerLogitGradient, terms } = batch;
    const gradients = await executor.backward(tape, zero, { routerLogitGradient, terms });
    for (const one of [batch, hidden, tape]) one.close();
    return { loss: batch.loss, losses: batch.losses, gradients };
  };
  const close = () => Promise.all([executor.close(), matching.close()]);
  return { run, close, executor };
}

/** Golden gradients by the student's keys: experts are fused there, gate before up. */
function goldenGradients(golden: Golden, loss: string, { description }: OpenModel): Map<string, number[]> {
  const found = new Map<string, number[]>();
  for (const { layer: index, moe } of moeLayers(description)) {
    const named = (name: string) => golden.get(`${loss}.grad.model.layers.${index}.mlp.${name}`);
    const put = (view: WeightView, values: readonly number[]) => found.set(weightKey(view), [...values]);
    put(moe.router.weight, named("gate.weight")!.values);
    const [gateUp, down] = [named("experts.gate_up_proj"), named("experts.down_proj")];
    if (!gateUp || !down) continue;
    moe.experts.forEach((expert, e) => {
      const part = (tensor: typeof down, share: number, of: number) => {
        const size = tensor.values.length / moe.numExperts / of;
        const from = (e * of + share) * size;
        return tensor.values.slice(from, from + size);
      };
      if (expert.gateUp.kind !== "separate") throw new Error("joined projections");
      put(expert.gateUp.gateProj.weight, part(gateUp, 0, 2));
      put(expert.gateUp.upProj.weight, part(gateUp, 1, 2));
      put(expert.downProj.weight, part(down, 0, 1));
    });
  }
  return found;
}

/** By night all of them; by day softmax over what is kept and sigmoid scores with a bias and groups. */
const cases = taughtFamilies.flatMap((family) =>
  (["pruned", "merged"] as const).map((name) => [family, name] as const),
);
const byDay = cases.filter(
  ([family, name]) => `${family} ${name}` === "olmoe merged" || `${family} ${name}` === "deepseek_v3 pruned",
);

describe("matching inside the model", () => {
  test.each(isNightly ? cases : byDay)("%s, %s: every term and its gradients are PyTorch's", async (family, name) => {
    const teacher = await openTeacher(family);
    const [student, mapping] = await studentOf(family, name);
    const golden = await distillationGolden(family, name);
    for (const [loss, term] of Object.entries(terms)) {
      const { run, close } = await opened(teacher, student, { [term]: 1 }, mapping);
      const found = await run(goldenTokens(golden));
      await close();
      expect(Math.abs(found.loss / golden.get(`${loss}.loss`)!.values[0]! - 1), loss).toBeLessThan(1e-3);
      const expected = goldenGradients(golden, loss, student);
      expect([...found.gradients.keys()].sort()).toEqual([...expected.keys()].sort());
      for (const [key, values] of expected)
        expect(relativeToLargest(found.gradients.get(key)!, values), `${loss} ${key}`).toBeLessThan(2e-3);
    }
  });
});

describe("the terms", () => {
  test("are zero for the teacher itself, with no gradient", async () => {
    const teacher = await openTeacher("olmoe");
    const { run, close } = await opened(teacher, teacher, { router: 1, experts: 1, feedForward: 1 }, null);
    const { losses, gradients } = await run(goldenTokens(await distillationGolden("olmoe", "pruned")));
    await close();
    for (const value of Object.values(losses)) expect(Math.abs(value)).toBeLessThan(1e-9);
    for (const values of gradients.values()) for (const value of values) expect(Math.abs(value)).toBeLessThan(1e-6);
  });

  test("are added to kd with their weights, whatever the chunks", async () => {
    const teacher = await openTeacher("qwen3_moe");
    const [student, expertMapping] = await studentOf("qwen3_moe", "merged");
    const sequences = goldenTokens(await distillationGolden("qwen3_moe", "merged"));
    const scratchDirectory = temporaryFolder();
    const targets = await TeacherTargets.prepare({
      teacher,
      sequences,
      runtime,
      directory: scratchDirectory,
      stage: "t",
    });
    const run = async (match: MatchWeights | null) => {
      const common = { sequenceLength: 24, runtime, scratchDirectory };
      const executor = await ModelExecutor.open({ ...student, ...common, direction: "backward" });
      // One sequence at a time, on both sides.
      executor.plan.chunkSequences = 1;
      const head = new VocabularyHead(student, executor.sessions, 24, { source: teacher, sharedHead: true });
      const matching = match && (await MatchingTeacher.open({ ...common, teacher, student, match, expertMapping }));
      if (matching) matching.executor.plan.chunkSequences = 1;
      const taught = { routerLogits: null, draws: [targets] };
      const batch = { sequences, numbers: [0, 1] };
      const options = calibrateOptions.parse({ match: match ?? undefined });
      const found = await lossAndGradients(executor, head, batch, taught, options, undefined, matching);
      await Promise.all([executor.close(), matching?.close()]);
      return found;
    };
    const plain = await run(null);
    const weights = { router: 0.5, experts: 2, feedForward: 3 };
    const all = await run(weights);
    let expected = plain.loss;
    const sums = new Map([...plain.gradients].map(([key, values]) => [key, Array.from(values)]));
    const alone = await opened(teacher, student, weights, expertMapping);
    const { losses, gradients } = await alone.run(sequences);
    await alone.close();
    for (const [term, weight] of Object.entries(weights)) expected += weight * losses[term as keyof MatchWeights];
    for (const [key, sum] of sums) gradients.get(key)!.forEach((value, i) => (sum[i]! += value));
    expect(all.loss).toBeCloseTo(expected, 5);
    expect(Object.keys(all.terms!)).toEqual(Object.keys(weights));
    for (const [key, values] of all.gradients) expect(relativeToLargest(values, sums.get(key)!)).toBeLessThan(1e-5);
  });
});

test("feed-forward outputs teach a dense student as deep as the teacher: its gradient is that of finite differences", async () => {
  const [whole, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
  const layers = whole.description.layers.slice(0, student.description.layers.length);
  const teacher = { ...whole, description: { ...whole.description, layers } };
  const sequences = randomSequences(4, 2, 24, { lengths: [24, 9] });
  const { run, close, executor } = await opened(teacher, student, { feedForward: 1 }, null);
  const { gradients } = await run(sequences);
  for (const [key, gradient] of gradients) {
    const squared = gradient.reduce((sum, g) => sum + g * g, 0);
    // Final norm and head have no part in what layers add.
    if (/^(lm_head|model\.norm)/.test(key)) expect(squared).toBe(0);
    if (squared === 0) continue;
    const weights = executor.parameters.get(key)!;
    const original = weights.slice();
    const step = 2e-3 / Math.sqrt(squared);
    const at = async (by: number) => {
      weights.forEach((_, i) => (weights[i] = original[i]! + by * gradient[i]!));
      return (await run(sequences)).loss;
    };
    const slope = ((await at(step)) - (await at(-step))) / (2 * step);
    weights.set(original);
    expect(Math.abs(slope / squared - 1), key).toBeLessThan(0.02);
  }
  await close();
});

test("one layer's terms in double: gradients by finite differences, softmax and sigmoid scores", () => {
  const random = (seed: number, length: number) => Float32Array.from({ length }, (_, i) => Math.sin(seed + 7 * i * i));
  for (const kind of ["softmax", "sigmoid"] as const) {
    const p = teacherProbabilities({ kind }, random(1, 12), 6, [[0, 3], [5], [1]]);
    for (const token of [0, 1]) expect(p[token * 3]! + p[token * 3 + 1]! + p[token * 3 + 2]!).toBeCloseTo(1, 6);
    const of = (logits: Float32Array) => routerTerm({ kind }, p, logits, 3, (token) => [0.25, 0][token]!);
    const logits = random(2, 6);
    const { gradient } = of(logits);
    for (let i = 0; i < 6; i++) {
      const moved = (by: number) => of(logits.with(i, logits[i]! + by)).loss;
      expect((moved(1e-2) - moved(-1e-2)) / 2e-2, kind).toBeCloseTo(gradient[i]!, 4);
    }
  }
});

test("experts by hand: two members of one student expert are their weighted mean, a dropped one does not count", () => {
  const targets = expertTargets(
    {
      selectedIds: Int32Array.of(0, 2, 1, 3),
      routingWeights: Float32Array.of(0.75, 0.25, 0.5, 0.5),
      rowOfSlot: Int32Array.of(0, 2, 1, 3),
      rows: Float32Array.of(3, 5, 1, 9),
    },
    { k: 2, width: 1, experts: 2 },
    Int32Array.of(1, 0, 1, -1),
    () => true,
  );
  // Token 0 reaches student expert 1 by both of its experts, token 1 expert 0 by one, and loses the other.
  expect([...targets.tokenOfRow]).toEqual([1, 0]);
  expect([...targets.firstRow]).toEqual([0, 1, 2]);
  expect([...targets.weights]).toEqual([0.5, 1]);
  expect([...targets.outputs]).toEqual([10, 4]);
  expect(targetEnergy(targets)).toBe(0.5 * 100 + 16);
  const outputs = Float32Array.of(12, 3);
  expect(expertTerm(targets, outputs, 0.5)).toBe(0.5 * (0.5 * 4 + 1));
  expect([...outputs]).toEqual([1, -1]);
});

describe("refused before anything runs", () => {
  test.each<[string, string, Parameters<typeof matchMapping>[2]]>([
    ["router", "routers and experts are matched", { router: 1 }],
    ["experts", "routers and experts are matched", { experts: 1 }],
  ])("a dense student's %s", async (_, message, match) => {
    const { description } = await openTeacher("olmoe");
    const { feedForward } = (await openStudent("olmoe")).description.layers[0]!;
    const dense = { ...description, layers: description.layers.map((layer) => ({ ...layer, feedForward })) };
    expect(() => matchMapping(dense, description, match, null)).toThrow(message);
  });

  test("another depth or width, draws of the teacher, and experts that weigh their input", async () => {
    const [teacher, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
    const lines: MetricsLine[] = [];
    const train = (options: object, other = student) =>
      calibrate({
        ...{ student: other, teacher, training: randomSequences(1, 2, 8), heldOut: null, seed: 1, runtime },
        ...{ options: calibrateOptions.parse(options), stateDirectory: temporaryFolder() },
        onMetrics: (line) => void lines.push(line),
      });
    await expectError(() => train({ match: { feedForward: 1 } }), "teacher/mismatch", "layers");
    const augment = { kind: "augment", lambda: 0.05, draws: 2 };
    await expectError(
      () => train({ match: { router: 1 }, teacherRouting: augment }, teacher),
      "arguments/invalid",
      "augment",
    );
    const logits = { match: { router: 1 }, loss: "router-logits" };
    await expectError(() => train(logits, teacher), "arguments/invalid", "router-logits");
    const llama4 = (await openModel(goldenCheckpoint("llama4_text"))).description;
    expect(() => matchMapping(llama4, llama4, { experts: 1 }, null)).toThrow(/multiplies their inputs/);
    expect(lines).toEqual([]);
    expect(() => calibrateOptions.parse({ match: {} })).toThrow(/name a term/);
  });
});
