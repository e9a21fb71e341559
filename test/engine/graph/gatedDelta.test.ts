import { describe, expect, test } from "vitest";
import { appendBackward } from "../../../src/engine/autodiff/backward";
import { gatedDeltaRule } from "../../../src/engine/graph/blocks/gatedDelta";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { BlockSession } from "../../../src/engine/runtime/session";
import { createRandom } from "../../../src/engine/tensor/random";
import { interpret } from "../../support/interpreter";
import { at, ndArray, sizeOf, type NdArray } from "../../support/ndArray";

/** Sizes: sequences, tokens, key heads, value heads a key head, key and value dims. */
type Sizes = [b: number, s: number, groups: number, perKey: number, keyDim: number, valueDim: number];

const names = ["query", "key", "value", "logDecay", "beta"] as const;

/** [label, sizes, tokens a chunk, how keys and decays are drawn] */
const rows: [label: string, sizes: Sizes, chunk: number, like: "random" | "repeated"][] = [
  ["one token", [2, 1, 1, 1, 2, 3], 4, "random"],
  ["less than a chunk", [1, 3, 2, 1, 2, 2], 4, "random"],
  ["a chunk", [1, 4, 1, 2, 3, 2], 4, "random"],
  ["one token behind a chunk", [2, 5, 1, 1, 2, 2], 4, "random"],
  ["two chunks", [1, 8, 1, 2, 2, 2], 4, "random"],
  ["four chunks, the last one short", [2, 14, 2, 2, 3, 2], 4, "random"],
  ["chunks of one", [1, 4, 1, 1, 2, 2], 1, "random"],
  ["a token that repeats", [1, 70, 1, 1, 4, 2], 32, "repeated"],
];

function feedsOf([b, s, groups, perKey, keyDim, valueDim]: Sizes, like: "random" | "repeated", seed: number) {
  const random = createRandom(seed);
  const drawn = (shape: number[], of: () => number) => ndArray(shape, Array.from({ length: sizeOf(shape) }, of));
  const keys = drawn([b, s, groups, keyDim], () => (like === "repeated" ? keyDim ** -0.5 : 0.4 * random.normal()));
  return {
    query: drawn([b, s, groups, keyDim], () => random.normal()),
    key: keys,
    value: drawn([b, s, groups, perKey, valueDim], () => random.normal()),
    logDecay: drawn([b, s, groups, perKey], () => (like === "repeated" ? -1e-4 : -random.uniform())),
    beta: drawn([b, s, groups, perKey], () => (like === "repeated" ? 0.999 : random.uniform())),
  };
}

/** The recurrence itself, token by token. */
function stepByStep({ query, key, value, logDecay, beta }: Record<(typeof names)[number], NdArray>): NdArray {
  const [b, s, groups, perKey, valueDim] = value.shape as [number, number, number, number, number];
  const keyDim = query.shape[3]!;
  const output = ndArray(value.shape, new Float64Array(value.data.length));
  const dims = Array.from({ length: keyDim }, (_, i) => i);
  for (let head = 0; head < b * groups * perKey; head++) {
    const [i, group, own] = [
      Math.floor(head / (groups * perKey)),
      Math.floor(head / perKey) % groups,
      head % perKey,
    ] as const;
    const state = dims.map(() => new Float64Array(valueDim));
    for (let t = 0; t < s; t++) {
      const decay = Math.exp(at(logDecay, [i, t, group, own]));
      const k = dims.map((d) => at(key, [i, t, group, d]));
      for (let v = 0; v < valueDim; v++) {
        for (const d of dims) state[d]![v]! *= decay;
        const remembered = dims.reduce((sum, d) => sum + state[d]![v]! * k[d]!, 0);
        const update = at(beta, [i, t, group, own]) * (at(value, [i, t, group, own, v]) - remembered);
        for (const d of dims) state[d]![v]! += k[d]! * update;
        const seen = dims.reduce((sum, d) => sum + state[d]![v]! * at(query, [i, t, group, d]), 0);
        output.data[(((i * s + t) * groups + group) * perKey + own) * valueDim + v] = seen;
      }
    }
  }
  return output;
}

function graphOf(floatType: "float32" | "float64", feeds: ReturnType<typeof feedsOf>, chunk: number) {
  const builder = new GraphBuilder(floatType);
  const inputs = Object.fromEntries(
    names.map((name) => [name, builder.input(name, ["B", ...feeds[name].shape.slice(1)])]),
  ) as Record<(typeof names)[number], ReturnType<GraphBuilder["input"]>>;
  const { output } = gatedDeltaRule(builder, inputs, chunk);
  return { builder, inputs, output };
}

describe("the chunked gated delta rule", () => {
  test.each(rows)("is the recurrence, and its gradient the finite difference: %s", (_, sizes, chunk, like) => {
    const feeds = feedsOf(sizes, like, 5);
    const { builder, inputs, output } = graphOf("float64", feeds, chunk);
    const all = new Map<string, NdArray>(names.map((name) => [name, feeds[name]]));
    const actual = interpret(builder.build({ output }), all).get("output")!;
    const expected = stepByStep(feeds);
    expect(actual.shape).toEqual(expected.shape);
    actual.data.forEach((value, i) => expect(Math.abs(value - expected.data[i]!)).toBeLessThan(1e-9));

    const random = createRandom(9);
    const cotangent = expected.data.map(() => random.normal());
    const dOutput = builder.input("dOutput", output.shape);
    const gradients = appendBackward(
      builder,
      [{ output, gradient: dOutput }],
      names.map((name) => inputs[name]),
    );
    const graph = builder.build(Object.fromEntries(gradients.map((gradient, i) => [names[i]!, gradient!])));
    const results = interpret(graph, new Map([...all, ["dOutput", ndArray(expected.shape, cotangent)]]));
    const loss = (name: string, element: number, by: number) => {
      const moved = { ...feeds[name as "query"], data: feeds[name as "query"].data.slice() };
      moved.data[element]! += by;
      return stepByStep({ ...feeds, [name]: moved }).data.reduce((sum, value, i) => sum + value * cotangent[i]!, 0);
    };
    for (const name of names) {
      const { data } = results.get(name)!;
      // Every element of small cases, some of large ones.
      for (let i = 0; i < data.length; i += Math.ceil(data.length / 40)) {
        const expectedGradient = (loss(name, i, 1e-5) - loss(name, i, -1e-5)) / 2e-5;
        const error = Math.abs(data[i]! - expectedGradient) / Math.max(1, Math.abs(expectedGradient));
        expect(error, `d/d${name}[${i}]: ${data[i]!}, finite difference ${expectedGradient}`).toBeLessThan(1e-7);
      }
    }
  });

  test("is the recurrence over random lengths and chunks", () => {
    const random = createRandom(3);
    for (let seed = 0; seed < 30; seed++) {
      const chunk = 1 + random.below(6);
      const sizes: Sizes = [1, 1 + random.below(4 * chunk), 1, 1 + random.below(2), 2, 2];
      const feeds = feedsOf(sizes, "random", seed);
      const { builder, output } = graphOf("float64", feeds, chunk);
      const graph = builder.build({ output });
      const actual = interpret(graph, new Map(names.map((name) => [name, feeds[name]]))).get("output")!;
      const expected = stepByStep(feeds);
      actual.data.forEach((value, i) => expect(Math.abs(value - expected.data[i]!)).toBeLessThan(1e-10));
    }
  });

  // Powers of the overlap reach 1e18 here: an inverse made of them would keep no digit in single precision.
  test("keeps single precision where one token repeats for hundreds of tokens", async () => {
    const feeds = feedsOf([1, 200, 1, 1, 4, 2], "repeated", 1);
    const { builder, output } = graphOf("float32", feeds, 64);
    const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
    const session = await BlockSession.create(builder.build({ output }), { runtime, keepFloat32Weights: false });
    try {
      const tensors = names.map((name) => {
        const { shape, data } = feeds[name];
        return [name, { type: "float32", shape, data: Float32Array.from(data) }] as const;
      });
      const actual = await session.run(Object.fromEntries(tensors));
      const expected = stepByStep(feeds).data;
      const largest = Math.max(...expected.map(Math.abs));
      Array.from(actual["output"]!.data, Number).forEach((value, i) =>
        expect(Math.abs(value - expected[i]!) / largest).toBeLessThan(1e-4),
      );
    } finally {
      await session.release();
    }
  });
});
