import { describe, expect, test } from "vitest";
import { appendBackward } from "../../../src/engine/autodiff/backward";
import { vjpRules } from "../../../src/engine/autodiff/rules";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import type { OpName, Value } from "../../../src/engine/graph/graph";
import { createRandom } from "../../../src/engine/tensor/random";
import { interpret } from "../../support/interpreter";
import { ndArray, type NdArray } from "../../support/ndArray";
import { opCase, opNames, opRows, type OpCase } from "../../support/opCases";

const seeds = Array.from({ length: 40 }, (_, seed) => seed);

describe("every op", () => {
  test.each(opNames)("%s: the rule, or its absence, is what the table says", (op) => {
    expect(vjpRules[op] !== null).toBe(opRows[op].differentiable);
  });

  const smoothOps = opNames.filter((op) => opRows[op].differentiable && !opRows[op].straightThrough);
  test.each(smoothOps)("%s: the gradient is the finite difference", (op) => {
    let compared = 0;
    for (const seed of seeds) compared += compareWithFiniteDifferences(opCase(op, seed, "float64"), `${op} ${seed}`);
    expect(compared).toBeGreaterThan(60);
  });

  test.each(opNames.filter((op) => opRows[op].straightThrough))("%s: the gradient goes straight through", (op) => {
    const { builder, outputs, wrt } = opCase(op, 1, "float64");
    const gradient = builder.input("dy", outputs[0]!.shape);
    expect(appendBackward(builder, [{ output: outputs[0]!, gradient }], [wrt[0]!])).toEqual([gradient]);
  });

  test.each(opNames.filter((op) => vjpRules[op] === null))("%s on the way of a gradient fails by its name", (op) => {
    const { builder, feeds } = opCase(op, 1, "float64");
    const x = builder.input("scale", []);
    const [first] = [...feeds.keys()];
    expect(first).toBeDefined();
    const node = builder.append(op, [x, x], {}, "float64", []);
    expect(() => appendBackward(builder, [{ output: node, gradient: x }], [x])).toThrow(
      `no gradient rule for the ONNX op ${op}`,
    );
  });
});

/** Checks sum_i <c_i, output_i> with random c in every element of every differentiable input; the number compared. */
function compareWithFiniteDifferences(given: OpCase, label: string): number {
  const { builder, outputs, wrt, feeds } = given;
  const forward = builder.build(Object.fromEntries(outputs.map((value, i) => [`y${i}`, value])));
  const values = interpret(forward, feeds);
  const random = createRandom(99);
  const cotangents = outputs.map((output, i): { output: Value; gradient: Value; values: NdArray } => {
    const { shape, data } = values.get(`y${i}`)!;
    const gradient = builder.input(`dy${i}`, output.shape);
    return {
      output,
      gradient,
      values: ndArray(
        shape,
        data.map(() => random.normal()),
      ),
    };
  });
  const gradients = appendBackward(builder, cotangents, wrt);
  const backward = builder.build(
    Object.fromEntries(gradients.flatMap((gradient, i) => (gradient === null ? [] : [[`dx${i}`, gradient]]))),
  );
  const all = new Map([...feeds, ...cotangents.map(({ gradient, values }) => [gradient.name, values] as const)]);
  const results = interpret(backward, all);
  const loss = (changed: ReadonlyMap<string, NdArray>) => {
    const outputValues = interpret(forward, changed);
    return cotangents.reduce((sum, { values }, i) => sum + dot(values, outputValues.get(`y${i}`)!), 0);
  };
  let compared = 0;
  wrt.forEach((input, i) => {
    const at = feeds.get(input.name)!;
    const gradient = gradients[i] === null ? null : results.get(`dx${i}`)!;
    if (gradient !== null) expect(gradient.shape, label).toEqual(at.shape);
    for (let element = 0; element < at.data.length; element++) {
      const step = 1e-5;
      const moved = (by: number) => {
        const data = at.data.slice();
        data[element]! += by;
        return loss(new Map([...feeds, [input.name, { shape: at.shape, data }]]));
      };
      const expected = (moved(step) - moved(-step)) / (2 * step);
      const actual = gradient === null ? 0 : gradient.data[element]!;
      const error = Math.abs(actual - expected) / Math.max(1, Math.abs(expected));
      expect(error, `${label}: d/d${input.name}[${element}] is ${actual}, finite difference ${expected}`).toBeLessThan(
        1e-7,
      );
      compared++;
    }
  });
  return compared;
}

function dot(a: NdArray, b: NdArray): number {
  return a.data.reduce((sum, value, i) => sum + value * b.data[i]!, 0);
}

/** Where a function has a kink, the rule has to choose: these are the choices. */
describe("kinks and ties", () => {
  const rows: [name: OpName, x: number[], apply: (builder: GraphBuilder, x: Value) => Value, dx: number[]][] = [
    ["Abs", [-1, 0, 2], (builder, x) => builder.abs(x), [-1, 0, 1]],
    ["Clip", [-3, -1, 0, 2, 3], (builder, x) => builder.clip(x, -1, 2), [0, 1, 1, 1, 0]],
    ["ReduceMax", [1, 4, 4, 2], (builder, x) => builder.reduceMax(x, [0]), [0, 0.5, 0.5, 0]],
    ["ReduceMax", [3, 3, 3, 3], (builder, x) => builder.reduceMax(x, [0], true), [0.25, 0.25, 0.25, 0.25]],
    ["Mul", [1, -2, 3], (builder, x) => builder.mul(x, x), [2, -4, 6]],
    ["Gather", [5, 6, 7], (builder, x) => builder.gather(x, builder.int64Constant([2, 0, 2, 2])), [1, 0, 3]],
  ];
  test.each(rows)("%s at %j", (_, x, apply, dx) => {
    const builder = new GraphBuilder("float64");
    const input = builder.input("x", [x.length]);
    const y = apply(builder, input);
    const gradient = builder.expandLike(builder.constant([1]), y);
    const [result] = appendBackward(builder, [{ output: y, gradient }], [input]);
    const values = interpret(builder.build({ dx: result! }), new Map([["x", ndArray([x.length], x)]]));
    expect(Array.from(values.get("dx")!.data)).toEqual(dx);
  });
});

describe("the backward graph", () => {
  test("adds up what reaches a value on several ways, and skips what no wanted value reaches", () => {
    const builder = new GraphBuilder("float64");
    const x = builder.input("x", [2]);
    const frozen = builder.input("frozen", [2]);
    const y = builder.add(builder.mul(builder.exp(x), frozen), builder.mul(x, builder.add(x, x)));
    const nodesBefore = builder.nodes.length;
    const dy = builder.input("dy", [2]);
    const gradients = appendBackward(builder, [{ output: y, gradient: dy }], [x]);
    expect(gradients).toHaveLength(1);
    expect(builder.nodes.length).toBeGreaterThan(nodesBefore);
    const feeds = { x: [0.5, -1], frozen: [2, 3], dy: [1, 10] };
    const values = interpret(
      builder.build({ dx: gradients[0]! }),
      new Map(Object.entries(feeds).map(([name, data]) => [name, ndArray([2], data)])),
    );
    const expected = feeds.x.map((a, i) => feeds.dy[i]! * (Math.exp(a) * feeds.frozen[i]! + 4 * a));
    values.get("dx")!.data.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 12));
  });

  test("is null for a value that no output depends on", () => {
    const builder = new GraphBuilder("float64");
    const [x, unused] = [builder.input("x", [1]), builder.input("unused", [1])];
    const gradients = appendBackward(
      builder,
      [{ output: builder.exp(x), gradient: builder.input("dy", [1]) }],
      [x, unused],
    );
    expect(gradients.map((gradient) => gradient === null)).toEqual([false, true]);
  });

  test("refuses a gradient over an axis whose size it cannot know", () => {
    const builder = new GraphBuilder("float64");
    const x = builder.input("x", ["T", 3]);
    const mean = builder.reduceMean(x, [0]);
    const cotangent = { output: mean, gradient: builder.input("dy", [3]) };
    expect(() => appendBackward(builder, [cotangent], [x])).toThrow(
      "ReduceMean: gradient over an axis of unknown size T",
    );
  });
});
