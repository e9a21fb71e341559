import path from "node:path";
import { beforeAll, describe, expect, test, vi } from "vitest";
import { elementCount } from "../../../src/engine/tensor/dtype";
import { evaluateCheckpoint, type EvaluateOptions } from "../../../src/engine/evaluation/evaluate";
import { runForwardProbe } from "../../../src/engine/execution/probe";
import type { ModelEvaluation } from "../../../src/protocol/evaluation";
import type { OpenModel } from "../../../src/engine/run/work";
import { expectError } from "../checkpoint/fixtures";
import { goldenCheckpoint, readGolden, type Golden } from "../../support/goldens";
import { kl, logitsOf, logSoftmax, mean, targetRows } from "../../support/logitsReference";
import { temporaryFolder } from "../../support/temporaryFolder";
import {
  copyWithChange,
  goldenSequences,
  openModel,
  randomSequences,
  writeGoldenStudent,
} from "../../support/tinyModels";

/** Each chunk of each layer takes a quarter of a second in graphs. */
const clock = vi.hoisted(() => ({ graphs: 0 }));
vi.mock(import("../../../src/engine/runtime/session"), async (original) => {
  const actual = await original();
  return { ...actual, graphSeconds: () => (clock.graphs += 0.25) };
});

const sequences = randomSequences(3, 5, 12, { lengths: [12, 5, 12, 2, 9], domains: ["prose", "code"] });
const rows = targetRows(sequences);

function evaluate(change: Pick<EvaluateOptions, "model" | "teacher"> & Partial<EvaluateOptions>) {
  return evaluateCheckpoint({
    sequences,
    expertMapping: null,
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 },
    scratchDirectory: temporaryFolder(),
    residentBytes: () => 5e8,
    ...change,
  });
}

const argMax = (logits: Float32Array) => logits.indexOf(Math.max(...logits));
const close = (actual: number | null, expected: number, label = "") => {
  expect(Math.abs(actual! - expected), label).toBeLessThanOrEqual(1e-5 * Math.max(5e-2, Math.abs(expected)));
};

/** Positions that are no padding. */
const validRows = Array.from({ length: 60 }, (_, row) => row).filter(
  (row) => row % 12 < sequences.lengths[Math.floor(row / 12)]!,
);

/** Softmax of a model's router logits, and its selection, by layer and row: a forward pass that knows nothing of evaluations. */
async function routerLogits(model: OpenModel) {
  const probe = await runForwardProbe({
    ...{ model, teacher: null, inputIds: sequences.ids, batch: 5, positions: 12 },
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9 },
    scratchDirectory: temporaryFolder(),
  });
  return (layer: number, row: number) => {
    const values = (name: string) => {
      const { shape, data } = probe.get(`${name}.${layer}`)!;
      return Array.from(data as Float32Array | BigInt64Array, Number).slice(row * shape[1]!, (row + 1) * shape[1]!);
    };
    const exponentials = values("router_logits").map(Math.exp);
    const total = exponentials.reduce((sum, value) => sum + value, 0);
    return { probabilities: exponentials.map((value) => value / total), selected: values("topk_ids") };
  };
}

/** Which teacher expert each student expert is. */
const keptOf = (golden: Golden) =>
  Object.fromEntries(
    [...golden]
      .filter(([name]) => name.startsWith("kept."))
      .map(([name, { values }]) => [name.split(".")[1]!, values.map((expert) => [expert])]),
  );

describe.each(["olmoe", "granitemoe"])("%s", (family) => {
  let teacher: OpenModel;
  let student: OpenModel;
  let result: ModelEvaluation;
  let reference: { teacher: Float32Array[]; student: Float32Array[] };
  const nllAt = (row: number) => -logSoftmax(reference.student[row]!)[sequences.ids[row + 1]!]!;
  const klAt = (row: number) => kl(reference.teacher[row]!, reference.student[row]!);
  const agreesAt = (row: number) => Number(argMax(reference.teacher[row]!) === argMax(reference.student[row]!));

  beforeAll(async () => {
    teacher = await openModel(goldenCheckpoint(family));
    student = await writeGoldenStudent(family, path.join(temporaryFolder(), "student"));
    result = await evaluate({ model: student, teacher, expertMapping: keptOf(await readGolden(family)) });
    reference = { teacher: await logitsOf(teacher, sequences), student: await logitsOf(student, sequences) };
  });

  test("loss, perplexity, KL and agreement are those of the logits", () => {
    expect([result.tokens, result.sequences]).toEqual([rows.length, 5]);
    close(result.nllPerToken, mean(rows.map(nllAt)));
    close(result.perplexity, Math.exp(mean(rows.map(nllAt))));
    close(result.klToTeacher, mean(rows.map(klAt)));
    close(result.top1Agreement, mean(rows.map(agreesAt)));
    expect(result.uncertainty.klToTeacher!.mean).toBe(result.klToTeacher);
  });

  test("every sequence's numbers are its own positions'", () => {
    for (let s = 0; s < 5; s++) {
      const own = rows.filter((row) => Math.floor(row / 12) === s);
      expect(own).toHaveLength(sequences.lengths[s]! - 1);
      close(result.perSequence.nll[s]!, mean(own.map(nllAt)), `nll of ${s}`);
      close(result.perSequence.kl![s]!, mean(own.map(klAt)), `kl of ${s}`);
      close(result.perSequence.top1![s]!, mean(own.map(agreesAt)), `top1 of ${s}`);
    }
  });

  test("domains split the positions", () => {
    const domains = Object.entries(result.byDomain);
    expect(domains.map(([name]) => name)).toEqual(["prose", "code"]);
    domains.forEach(([, { tokens, nllPerToken, klToTeacher }], domain) => {
      const own = rows.filter((row) => sequences.domainIds[row] === domain);
      expect(tokens).toBe(own.length);
      close(nllPerToken, mean(own.map(nllAt)));
      close(klToTeacher, mean(own.map(klAt)));
    });
  });

  test("routing: every layer, over the experts that are left, from both models' router logits", async () => {
    const layers = Object.keys(keptOfResult(result)).map(Number);
    expect(result.routing!.map(({ layer }) => layer)).toEqual(layers);
    const [ofTeacher, ofStudent] = [await routerLogits(teacher), await routerLogits(student)];
    for (const { layer, routingKl, l1, topKOverlap, klByExpert } of result.routing!) {
      const kept = keptOfResult(result)[layer]!;
      const tokens = validRows.map((row) => {
        const p = ofTeacher(layer, row).probabilities;
        const q = ofStudent(layer, row).probabilities;
        const mass = kept.reduce((sum, expert) => sum + p[expert]!, 0);
        const chosen = ofTeacher(layer, row).selected;
        const again = ofStudent(layer, row).selected.map((expert) => kept[expert]!);
        return {
          kl: kept.map((expert, e) => (p[expert]! / mass) * Math.log(p[expert]! / mass / q[e]!)),
          l1: p.reduce((sum, value, expert) => sum + Math.abs(value - (q[kept.indexOf(expert)] ?? 0)), 0),
          overlap: chosen.filter((expert) => again.includes(expert)).length / chosen.length,
        };
      });
      close(routingKl, mean(tokens.map(({ kl }) => kl.reduce((sum, value) => sum + value, 0))));
      close(l1, mean(tokens.map((token) => token.l1)));
      close(topKOverlap, mean(tokens.map(({ overlap }) => overlap)));
      klByExpert.forEach((value, expert) => {
        if (kept.includes(expert)) close(value, mean(tokens.map(({ kl }) => kl[kept.indexOf(expert)]!)));
        else expect(value).toBeNull();
      });
    }
  });

  test("without a teacher: the same loss and nothing about one", async () => {
    const alone = await evaluate({ model: student, teacher: null });
    close(alone.nllPerToken, result.nllPerToken);
    expect(alone).toMatchObject({ klToTeacher: null, top1Agreement: null, routing: null });
    expect(alone.perSequence).toMatchObject({ kl: null, top1: null });
  });

  test("a model compared with itself differs in nothing", async () => {
    const same = await evaluate({ model: teacher, teacher });
    expect(Math.abs(same.klToTeacher!)).toBeLessThan(1e-6);
    expect(same.top1Agreement).toBe(1);
    for (const { routingKl, l1, topKOverlap } of same.routing!) {
      expect(Math.abs(routingKl)).toBeLessThan(1e-12);
      expect(l1).toBeLessThan(1e-12);
      expect(topKOverlap).toBe(1);
    }
  });

  test("what stands in the padding changes nothing", async () => {
    const ids = sequences.ids.slice();
    for (let s = 0; s < 5; s++) ids.fill(9, s * 12 + sequences.lengths[s]!, (s + 1) * 12);
    const other = await evaluate({
      model: student,
      teacher,
      expertMapping: result.expertMapping,
      sequences: { ...sequences, ids },
    });
    close(other.klToTeacher, result.klToTeacher!);
    close(other.nllPerToken, result.nllPerToken);
    other.routing!.forEach((layer, i) => {
      close(layer.routingKl, result.routing![i]!.routingKl);
      close(layer.topKOverlap, result.routing![i]!.topKOverlap);
    });
  });

  test("cost counts the checkpoint's parameters and bytes", () => {
    const tensors = [...student.checkpoint.tensors.values()];
    expect(result.cost.bytes).toBe(tensors.reduce((sum, { byteLength }) => sum + byteLength, 0));
    expect(result.cost.parametersTotal).toBe(tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0));
    expect(result.cost.parametersActive).toBeLessThan(result.cost.parametersTotal);
    // One chunk of five sequences of twelve tokens, through every layer.
    expect(result.cost.tokensPerSecond).toBe(60 / (0.25 * student.description.layers.length));
    expect(result.cost.tokensPerSecondQuartiles).toBeNull();
    expect(result.cost.peakMemoryBytes).toBe(5e8);
  });
});

test("the golden sequences give transformers' distillation loss as KL", async () => {
  const golden = await readGolden("mixtral");
  const student = await writeGoldenStudent("mixtral", path.join(temporaryFolder(), "student"));
  const teacher = await openModel(goldenCheckpoint("mixtral"));
  const result = await evaluate({ model: student, teacher, sequences: await goldenSequences("mixtral") });
  const expected = golden.get("kd_loss")!.values[0]!;
  expect(Math.abs(result.klToTeacher! - expected) / expected).toBeLessThan(1e-3);
});

test.each([
  ["model.layers.1.self_attn.o_proj.weight", "attention of layer 1"],
  ["model.norm.weight", "vocabulary head"],
])("NaN in %s stops with a typed error", async (tensor, mention) => {
  const folder = path.join(temporaryFolder(), "broken");
  const broken = await copyWithChange(goldenCheckpoint("olmoe"), folder, tensor, (values) => values.fill(NaN));
  await expectError(() => evaluate({ model: broken, teacher: null }), "checkpoint/not-finite", mention);
});

function keptOfResult({ expertMapping }: ModelEvaluation): Record<number, number[]> {
  return Object.fromEntries(Object.entries(expertMapping!).map(([layer, mapping]) => [layer, mapping.flat()]));
}
