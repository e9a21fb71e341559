import { describe, expect, it } from "vitest";
import { SessionCache } from "../../../src/engine/execution/sessionCache";
import { GraphBuilder } from "../../../src/engine/graph/builder";

const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
const nodesEach = 3;
const bytesEach = nodesEach * 6000;

function graphOf() {
  const builder = new GraphBuilder();
  let x = builder.input("x", ["T"]);
  for (let node = 0; node < nodesEach; node++) x = builder.scale(x, 2 + node);
  return builder.build({ y: x });
}

/** Sessions compiled in each of `passes` passes through `layers` layers of two sessions, each asked for in two chunks. */
async function compiled(layers: number, room: number, passes: number): Promise<number[]> {
  const cache = new SessionCache(runtime, { keepFloat32Weights: false, sessionBytes: room * bytesEach }, 4);
  const counts = Array.from({ length: passes }, () => 0);
  try {
    for (let pass = 0; pass < passes; pass++) {
      for (let layer = 0; layer < layers; layer++) {
        for (let use = 0; use < 4; use++) {
          const session = await cache.get(`${layer} ${use % 2}`, () => {
            counts[pass]! += 1;
            return graphOf();
          });
          const { y } = await session.run({ x: { type: "float32", shape: [1], data: Float32Array.of(1) } });
          expect(y!.data[0]).toBe(24);
        }
      }
    }
    return counts;
  } finally {
    await cache.close();
  }
}

describe("compiled sessions of passes through all layers", () => {
  it.each<[string, number, number, number[]]>([
    ["all fit: compiled once", 4, 8, [8, 0, 0]],
    // Of 20 sessions in room for 12, eight stay for good; of the last four, those of the lowest layers go first.
    ["what came first stays", 10, 12, [20, 12, 12]],
    ["room for one layer: each session once a layer, whatever the chunks", 5, 2, [10, 10, 10]],
    ["room for nothing still runs", 2, 0, [8, 8, 8]],
  ])("%s", async (_what, layers, room, expected) => {
    expect(await compiled(layers, room, expected.length)).toEqual(expected);
  });
});
