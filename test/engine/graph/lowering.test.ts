import { describe, expect, test } from "vitest";
import { appendBackward } from "../../../src/engine/autodiff/backward";
import type { ElementType, Graph } from "../../../src/engine/graph/graph";
import { BlockSession, type Tensor } from "../../../src/engine/runtime/session";
import { createRandom } from "../../../src/engine/tensor/random";
import { interpret } from "../../support/interpreter";
import { ndArray, type NdArray } from "../../support/ndArray";
import { opCase, opNames, opRows } from "../../support/opCases";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
const seeds = [0, 1, 2, 3, 4, 5];

/** onnxruntime in float32 gives what the interpreter gives in double precision: every op and every gradient rule. */
describe.each(opNames)("%s", (op) => {
  test("the lowered graph and its gradient equal the interpreter", async () => {
    for (const seed of seeds) {
      const { builder, outputs, wrt, feeds } = opCase(op, seed, "float32");
      const inputs = new Map<string, NdArray>(
        [...feeds].map(([name, { shape, data }]) => [name, { shape, data: data.map(Math.fround) }]),
      );
      const wanted = Object.fromEntries(outputs.map((value, i) => [`y${i}`, value]));
      if (opRows[op].differentiable) {
        const values = interpret(builder.build(wanted), inputs);
        const random = createRandom(7);
        const cotangents = outputs.map((output, i) => {
          const gradient = builder.input(`dy${i}`, output.shape);
          const { shape, data } = values.get(`y${i}`)!;
          inputs.set(
            gradient.name,
            ndArray(
              shape,
              data.map(() => Math.fround(random.normal())),
            ),
          );
          return { output, gradient };
        });
        appendBackward(builder, cotangents, wrt).forEach((gradient, i) => {
          if (gradient !== null) wanted[`dx${i}`] = gradient;
        });
      }
      await expectSame(builder.build(wanted), inputs, `${op} ${seed}`);
    }
  });
});

async function expectSame(graph: Graph, inputs: ReadonlyMap<string, NdArray>, label: string): Promise<void> {
  const expected = interpret(graph, inputs);
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  try {
    const feeds = graph.inputs.map(({ name, type }) => [name, tensorOf(inputs.get(name)!, type)] as const);
    const actual = await session.run(Object.fromEntries(feeds));
    for (const [name, { shape, data }] of expected) {
      const result = actual[name]!;
      expect(result.shape, `${label} ${name}`).toEqual(shape);
      data.forEach((value, i) => {
        const error = Math.abs(Number(result.data[i]) - value) / Math.max(1, Math.abs(value));
        expect(error, `${label} ${name}[${i}]: ${Number(result.data[i])}, expected ${value}`).toBeLessThan(1e-5);
      });
    }
  } finally {
    await session.release();
  }
}

function tensorOf({ shape, data }: NdArray, type: ElementType): Tensor {
  const convert: Partial<Record<ElementType, () => Tensor["data"]>> = {
    float32: () => Float32Array.from(data),
    int32: () => Int32Array.from(data),
    int64: () => BigInt64Array.from(data, BigInt),
    int8: () => Int8Array.from(data),
    uint8: () => Uint8Array.from(data),
    bool: () => Uint8Array.from(data),
  };
  return { type: type as Tensor["type"], shape, data: convert[type]!() };
}
