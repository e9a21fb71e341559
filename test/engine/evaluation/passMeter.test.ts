import { expect, test, vi } from "vitest";
import { PassMeter, speedOf } from "../../../src/engine/evaluation/passMeter";
import { BlockSession, graphSeconds } from "../../../src/engine/runtime/session";
import { GraphBuilder } from "../../../src/engine/graph/builder";

const clock = vi.hoisted(() => ({ graphs: 0 }));
vi.mock(import("../../../src/engine/runtime/session"), async (original) => {
  const actual = await original();
  return { ...actual, graphSeconds: () => clock.graphs };
});

/** Two layers of chunks of 4, 4 and 2 tokens, taking 1, 2 and 3 seconds in graphs; what else goes on takes no part. */
function pass(meter: PassMeter, layers: number) {
  for (let layer = 0; layer < layers; layer++)
    for (const [tokens, seconds] of [
      [4, 1],
      [4, 2],
      [2, 3],
    ] as const) {
      clock.graphs += seconds;
      meter.onChunk(tokens);
    }
}

const chunks = (layers: number) => [
  { tokens: 4, seconds: layers },
  { tokens: 4, seconds: 2 * layers },
  { tokens: 2, seconds: 3 * layers },
];

test("graph time by the chunk, added up over layers and over attempts", () => {
  const whole = new PassMeter(() => 7, 10);
  pass(whole, 2);
  expect(whole.measured()).toEqual({ chunks: chunks(2), peakMemoryBytes: 7 });
  const resumed = new PassMeter(() => 5, 10);
  resumed.restore(whole.measured());
  pass(resumed, 1);
  expect(resumed.measured()).toEqual({ chunks: chunks(3), peakMemoryBytes: 7 });
});

test.each<[string, [number, number][], number | null, [number, number] | null]>([
  ["nothing measured", [], null, null],
  ["one chunk: no spread", [[10, 2]], 5, null],
  [
    "two chunks: no spread",
    [
      [10, 2],
      [6, 2],
    ],
    4,
    null,
  ],
  [
    "a slow first chunk and a short last one",
    [
      [8, 8],
      [8, 1],
      [8, 2],
      [8, 4],
      [1, 0.5],
    ],
    2,
    [2, 4],
  ],
])("%s", (_, given, tokensPerSecond, tokensPerSecondQuartiles) => {
  const speed = speedOf(given.map(([tokens, seconds]) => ({ tokens, seconds })));
  expect(speed).toEqual({ tokensPerSecond, tokensPerSecondQuartiles });
});

test("running a graph counts, compiling it does not", async () => {
  const { graphSeconds: counted } = await vi.importActual<{ graphSeconds: typeof graphSeconds }>(
    "../../../src/engine/runtime/session",
  );
  const builder = new GraphBuilder();
  const graph = builder.build({ y: builder.scale(builder.input("x", ["T"]), 2) });
  const before = counted();
  const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
  const session = await BlockSession.create(graph, { runtime, keepFloat32Weights: false });
  expect(counted()).toBe(before);
  await session.run({ x: { type: "float32", shape: [1], data: Float32Array.of(1) } });
  expect(counted()).toBeGreaterThan(before);
  await session.release();
});
