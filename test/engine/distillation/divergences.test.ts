import path from "node:path";
import { describe, expect, test } from "vitest";
import { divergenceOf } from "../../../src/engine/distillation/divergence";
import { runStudentProbe } from "../../../src/engine/distillation/studentProbe";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { augmentedRouting } from "../../../src/engine/execution/expertSampler";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import type { HiddenStates } from "../../../src/engine/execution/hiddenStates";
import { Tape } from "../../../src/engine/execution/tape";
import { VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { gradientTensors } from "../../../src/engine/distillation/studentProbe";
import { trainableWeights } from "../../../src/engine/distillation/scope";
import { rowDivergence, type Divergence } from "../../../src/engine/graph/blocks/divergence";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { withActiveExperts } from "../../../src/engine/model/activeExperts";
import { createRandom } from "../../../src/engine/tensor/random";
import { divergenceKinds } from "../../../src/protocol/calibrateOptions";
import {
  distillationGolden,
  goldenTokens,
  openStudent,
  openTeacher,
  taughtFamilies,
} from "../../support/distillationGoldens";
import { goldenCheckpoint, relativeToLargest, type Golden } from "../../support/goldens";
import { interpret } from "../../support/interpreter";
import { ndArray } from "../../support/ndArray";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 } as const;

const named: Record<string, { divergence: Divergence; temperature?: number }> = {
  forward: { divergence: divergenceOf("forward", undefined) },
  reverse: { divergence: divergenceOf("reverse", undefined) },
  "forward-temperature-2": { divergence: divergenceOf("forward", undefined), temperature: 2 },
  "jsd-0.3": { divergence: divergenceOf("jsd", 0.3) },
  "skew-forward-0.1": { divergence: divergenceOf("skew-forward", undefined) },
  "skew-reverse-0.1": { divergence: divergenceOf("skew-reverse", undefined) },
};

/** A divergence of rows in double precision: loss and gradient of each row. */
function inDouble(teacher: number[], student: number[], width: number, divergence: Divergence, temperature = 1) {
  const builder = new GraphBuilder("float64");
  const [t, s] = ["teacher", "student"].map((name) => builder.input(name, ["T", width]));
  const graph = builder.build(rowDivergence(builder, t!, s!, divergence, temperature));
  const rows = student.length / width;
  const feeds = new Map([
    ["teacher", ndArray([rows, width], teacher)],
    ["student", ndArray([rows, width], student)],
  ]);
  const result = interpret(graph, feeds);
  return { loss: [...result.get("loss")!.data], gradient: [...result.get("gradient")!.data] };
}

describe.each(divergenceKinds)("%s", (kind) => {
  test.each(kind === "forward" || kind === "reverse" ? [undefined] : [undefined, 0.25, 0.9])(
    "with mix %s: the gradient is that of finite differences",
    (mix) => {
      const random = createRandom(7);
      const [width, step, temperature] = [9, 1e-6, 1.7];
      const draw = () => Array.from({ length: width }, () => 3 * random.normal());
      const [teacher, student] = [draw(), draw()];
      const at = (logits: number[]) => inDouble(teacher, logits, width, divergenceOf(kind, mix), temperature);
      const { gradient } = at(student);
      for (let v = 0; v < width; v++) {
        const moved = (by: number) => at(student.with(v, student[v]! + by)).loss[0]!;
        expect(gradient[v]!).toBeCloseTo((moved(step) - moved(-step)) / (2 * step), 8);
      }
    },
  );

  test("is 0 with no gradient where both are equal, and finite where they share nothing", () => {
    const logits = [0.5, -3, 2, 400];
    const equal = inDouble(logits, logits, 4, divergenceOf(kind, undefined));
    for (const value of [...equal.loss, ...equal.gradient]) expect(Math.abs(value)).toBeLessThan(1e-12);
    const apart = inDouble([900, 0, 0, 0], [0, 0, 0, 900], 4, divergenceOf(kind, undefined));
    for (const value of [...apart.loss, ...apart.gradient]) expect(Number.isFinite(value)).toBe(true);
  });
});

test("mixes of 0 and 1 are refused by name", () => {
  for (const mix of [0, 1, -1, NaN]) expect(() => divergenceOf("jsd", mix)).toThrow(/jsd mixes both distributions by/);
  for (const kind of ["forward", "reverse"] as const)
    expect(() => divergenceOf(kind, 0.3)).toThrow(new RegExp(`${kind} compares .* as they are, and mix 0.3`));
});

describe.each(taughtFamilies)("%s", (family) => {
  test("losses and their gradients in the student's logits are PyTorch's", async () => {
    const golden = await distillationGolden(family, "losses");
    const teacher = (await distillationGolden(family, "routing")).get("topk.logits")!.values;
    const { targets, sequenceLength, numSequences } = goldenTokens(golden);
    const count = targets.reduce((sum, one) => sum + one, 0);
    const [width, rows] = [160, sequenceLength - 1];
    const student = golden.get("logits")!.values;
    for (const [name, { divergence, temperature = 1 }] of Object.entries(named)) {
      const { loss, gradient } = inDouble(teacher, student, width, divergence, temperature);
      const factor = temperature ** 2 / count;
      let total = 0;
      const dlogits: number[] = [];
      for (let s = 0; s < numSequences; s++) {
        for (let t = 0; t < rows; t++) {
          const row = s * sequenceLength + t;
          const weight = targets[s * rows + t]! * factor;
          total += weight * loss[row]!;
          for (let v = 0; v < width; v++) dlogits.push(weight * gradient[row * width + v]!);
        }
      }
      expect(Math.abs(total / golden.get(`${name}.loss`)!.values[0]! - 1), name).toBeLessThan(1e-3);
      expect(relativeToLargest(dlogits, golden.get(`${name}.dlogits`)!.values), name).toBeLessThan(2e-3);
    }
  });

  test("the probe: loss of every divergence against the teacher, and what it routes with other active experts", async () => {
    const [teacher, student] = [await openTeacher(family), await openStudent(family)];
    const golden = await distillationGolden(family, "losses");
    const { ids: inputIds, targets } = goldenTokens(golden);
    const scratchDirectory = temporaryFolder();
    const common = { inputIds, batch: 2, positions: 24, runtime, scratchDirectory };
    for (const [name, { divergence, temperature = 1 }] of Object.entries(named)) {
      const found = await runStudentProbe({
        ...{ ...common, model: student, teacher, scope: "feed-forward", divergence, temperature, targets },
      });
      const [loss] = found.get("loss")!.data as Float32Array;
      expect(Math.abs(loss! / golden.get(`${name}.loss`)!.values[0]! - 1), name).toBeLessThan(1e-3);
    }
    const routing = await distillationGolden(family, "routing");
    const active = new Set([...routing.keys()].flatMap((name) => /^top(\d+)\.ids/.exec(name)?.[1] ?? []));
    for (const n of active) {
      const model = { ...teacher, description: withActiveExperts(teacher.description, Number(n)) };
      const found = await runForwardProbe({ ...common, model, teacher: null });
      checkRouting(found, routing, `top${n}`);
    }
  });
});

/** The same model whose head lacks the last rows, as a checkpoint without that padding. */
function withShorterHead<M extends Awaited<ReturnType<typeof openTeacher>>>(model: M, vocabSize: number): M {
  const { description } = model;
  const { head } = description;
  const weight = { ...head.weight, shape: [vocabSize, description.hiddenSize] };
  return { ...model, description: { ...description, vocabSize, head: { ...head, weight } } };
}

test.each(["forward", "reverse"] as const)(
  "%s: training cuts vocabularies to the tokens that both have",
  async (kind) => {
    const [width, cut] = [160, 157];
    const [teacher, student] = [await openTeacher("olmoe"), await openStudent("olmoe")];
    const golden = await distillationGolden("olmoe", "losses");
    const { ids: inputIds, targets, numSequences, sequenceLength } = goldenTokens(golden);
    const divergence = divergenceOf(kind, undefined);
    const probe = (model: typeof student, of: typeof teacher) =>
      runStudentProbe({
        ...{
          model,
          teacher: of,
          inputIds,
          batch: 2,
          positions: sequenceLength,
          scope: "all",
          divergence,
          temperature: 1,
          targets,
        },
        ...{ runtime, scratchDirectory: temporaryFolder() },
      });
    const padded = await probe(student, withShorterHead(teacher, cut));
    const shorter = await probe(withShorterHead(student, cut), teacher);

    const rows = (logits: readonly number[]) => logits.filter((_, i) => i % width < cut);
    const whole = (await distillationGolden("olmoe", "routing")).get("topk.logits")!.values;
    const { loss } = inDouble(rows(whole), rows(golden.get("logits")!.values), cut, divergence);
    const isTarget = (row: number) => {
      const [s, t] = [Math.floor(row / sequenceLength), row % sequenceLength];
      return s < numSequences && t < sequenceLength - 1 && targets[s * (sequenceLength - 1) + t] === 1;
    };
    const counted = loss.filter((_, row) => isTarget(row));
    const expected = counted.reduce((sum, one) => sum + one, 0) / counted.length;
    for (const found of [padded, shorter])
      expect(Math.abs((found.get("loss")!.data as Float32Array)[0]! / expected - 1)).toBeLessThan(1e-3);

    // Padding rows learn nothing; everything else learns the same, whichever of the two has them.
    const head = padded.get("grad.lm_head.weight")!.data as Float32Array;
    expect(head.subarray(cut * student.description.hiddenSize).every((one) => one === 0)).toBe(true);
    expect(padded.size).toBeGreaterThan(10);
    for (const [name, { data }] of padded) {
      const other = shorter.get(name)!.data as Float32Array;
      const common = (data as Float32Array).subarray(0, other.length);
      expect(relativeToLargest(common, [...other]), name).toBeLessThan(1e-6);
    }
  },
);

function checkRouting(found: Awaited<ReturnType<typeof runForwardProbe>>, golden: Golden, name: string): void {
  const close = (actual: string, expected: string) =>
    expect(
      relativeToLargest(found.get(actual)!.data as Float32Array, golden.get(expected)!.values),
      expected,
    ).toBeLessThan(2e-4);
  close("logits", `${name}.logits`);
  for (const layer of [...golden.keys()].flatMap((key) => /^probabilities\.(\d+)/.exec(key)?.[1] ?? [])) {
    const ids = Array.from(found.get(`topk_ids.${layer}`)!.data as BigInt64Array, Number);
    expect(ids, `${name}.ids.${layer}`).toEqual(golden.get(`${name}.ids.${layer}`)!.values);
    close(`topk_weights.${layer}`, `${name}.weights.${layer}`);
  }
}

describe.each(taughtFamilies)("Knowledge Augmentation of %s", (family) => {
  test("two draws by PyTorch's uniform numbers, and the gradient of their mean in every weight of the student", async () => {
    const [whole, student] = [await openTeacher(family), await openStudent(family)];
    const [golden, weightsGolden] = [
      await distillationGolden(family, "augmented"),
      await distillationGolden(family, "weights"),
    ];
    const { ids: inputIds, targets } = goldenTokens(golden);
    const experts = golden.get(`ka0.race.${firstLayer(golden)}`)!.shape[1]!;
    const teacher = { ...whole, description: withActiveExperts(whole.description, experts - 1) };
    const scratchDirectory = temporaryFolder();
    const open = { sequenceLength: 24, runtime, scratchDirectory };
    const draws: HiddenStates[] = [];
    for (const draw of [0, 1]) {
      const sampler = augmentedRouting(0.5, {
        coin: (layer, token) => golden.get(`ka${draw}.coin.${layer}`)!.values[token]!,
        race: (layer, token, out) => {
          const { values } = golden.get(`ka${draw}.race.${layer}`)!;
          for (let e = 0; e < experts; e++) out[e] = values[token * experts + e]!;
        },
      });
      const executor = await ModelExecutor.open({ ...teacher, ...open, direction: "forward", sampler });
      const seen: [string, Int32Array, Float32Array][] = [];
      const hidden = await executor.forward(
        { ids: inputIds },
        {
          observer: {
            observe: ({ layer, selectedIds, routingWeights }) =>
              seen.push([String(layer), selectedIds, routingWeights]),
          },
        },
      );
      const head = new VocabularyHead(teacher, executor.sessions, 20);
      const logits = await head.logits(hidden);
      expect(relativeToLargest(logits, golden.get(`ka${draw}.logits`)!.values)).toBeLessThan(2e-4);
      for (const [layer, ids, weights] of seen) {
        expect([...ids], layer).toEqual(golden.get(`ka${draw}.ids.${layer}`)!.values);
        expect(relativeToLargest(weights, golden.get(`ka${draw}.weights.${layer}`)!.values)).toBeLessThan(2e-4);
      }
      await head.normalise(hidden);
      draws.push(hidden);
      await executor.close();
    }

    const weights = trainableWeights(student.description, "all");
    const trainable = new Set(weights.map(({ key }) => key));
    const executor = await ModelExecutor.open({ ...student, ...open, direction: "backward", trainable });
    const head = new VocabularyHead(
      { ...student, trainable },
      executor.sessions,
      20,
      { source: teacher, sharedHead: false },
      executor.trained,
    );
    const count = targets.reduce((sum, one) => sum + one, 0);
    const rowWeights = Float32Array.from({ length: 48 }, (_, row) =>
      row % 24 === 23 ? 0 : targets[Math.floor(row / 24) * 23 + (row % 24)]! / count,
    );
    const run = async (teacherHidden: typeof draws) => {
      const tape = new Tape();
      const hidden = await executor.forward({ ids: inputIds }, { tape });
      const gradients = executor.trained.zeros();
      const options = { loss: "kd", temperature: 1, divergence: divergenceOf("reverse", undefined) } as const;
      const given = { teacherHidden, labels: new Int32Array(48) };
      const losses = await head.lossAndGradient(hidden, given, rowWeights, options, undefined, gradients);
      await executor.backward(tape, hidden, {}, gradients);
      const loss = losses.reduce((sum, value, row) => sum + value * rowWeights[row]!, 0);
      return { loss, gradients: gradientTensors(student, weights, gradients) };
    };
    const mean = await run(draws);
    expect(Math.abs(mean.loss / weightsGolden.get("loss")!.values[0]! - 1)).toBeLessThan(1e-3);
    const names = [...weightsGolden.keys()].filter((name) => name.startsWith("grad."));
    expect([...mean.gradients.keys()].sort()).toEqual(names.sort());
    for (const [name, { data }] of mean.gradients)
      expect(relativeToLargest(data as Float32Array, weightsGolden.get(name)!.values), name).toBeLessThan(2e-3);

    // Identical draws are one.
    const [one, twice] = [await run([draws[0]!]), await run([draws[0]!, draws[0]!])];
    expect(twice.loss).toBeCloseTo(one.loss, 6);
    for (const [name, { data }] of twice.gradients)
      expect(relativeToLargest(data as Float32Array, one.gradients.get(name)!.data as Float32Array)).toBeLessThan(1e-6);
    await executor.close();
  });
});

function firstLayer(golden: Golden): string {
  return [...golden.keys()].flatMap((name) => /^ka0\.coin\.(\d+)/.exec(name)?.[1] ?? [])[0]!;
}

describe("active experts", () => {
  test("the family's own number is the same description where no limit to groups is lifted", async () => {
    for (const name of ["qwen3_moe", "olmoe", "gpt_oss"]) {
      const { description } = await openModel(goldenCheckpoint(name));
      const moe = description.layers.flatMap(({ feedForward }) =>
        feedForward.kind === "moe" ? [feedForward] : [],
      )[0]!;
      expect(withActiveExperts(description, moe.numExpertsPerToken), name).toEqual(description);
    }
  });

  test("refused by name: more than there are, and SparseMixer", async () => {
    const { description } = await openModel(goldenCheckpoint("qwen3_moe"));
    expect(() => withActiveExperts(description, 9)).toThrow(/9 active experts .* layer 0 of this qwen3_moe .* has 8/);
    const phi = (await openModel(goldenCheckpoint("phimoe"))).description;
    expect(() => withActiveExperts(phi, 3)).toThrow(/SparseMixer in layer 0 of this phimoe/);
    expect(withActiveExperts(phi, 2)).toEqual(phi);
  });

  test("without keeping the mass, weights are the family's", async () => {
    const teacher = await openTeacher("olmoe");
    const golden = await distillationGolden("olmoe", "routing");
    const { ids: inputIds } = goldenTokens(golden);
    const model = { ...teacher, description: withActiveExperts(teacher.description, 8, "family") };
    const scratchDirectory = path.join(temporaryFolder(), "s");
    const options = { model, teacher: null, inputIds, batch: 2, positions: 24, runtime, scratchDirectory };
    const logits = (await runForwardProbe(options)).get("logits")!.data as Float32Array;
    expect(relativeToLargest(logits, golden.get("top8.logitsFamilyMass")!.values)).toBeLessThan(2e-4);
  });
});
