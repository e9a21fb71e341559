import { writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { LayerEngine } from "../../../src/engine/compression/layer/layerEngine";
import { MatrixProducts } from "../../../src/engine/linalg/products";
import { matrix } from "../../../src/engine/linalg/matrix";
import { BlockSession } from "../../../src/engine/runtime/session";
import { SessionCache, type SessionLimits } from "../../../src/engine/execution/sessionCache";
import { GraphBuilder } from "../../../src/engine/graph/builder";
import { temporaryFolder } from "../../support/temporaryFolder";

const factors = path.join(temporaryFolder(), "factors");
beforeAll(() => writeFileSync(factors, Float32Array.of(4)));

const runtime = { threads: 2, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
const nodesEach = 3;
const bytesEach = nodesEach * 6000;

type Limits = Omit<SessionLimits, "keepFloat32Weights">;

/** 24 times x: the last factor lies in a file. */
function graphOf() {
  const builder = new GraphBuilder();
  let x = builder.input("x", ["T"]);
  for (let node = 1; node < nodesEach; node++) x = builder.scale(x, 1 + node);
  const four = builder.fileInitialiser("four", "float32", [1], { file: factors, offset: 0, length: 4 });
  return builder.build({ y: builder.mul(x, four) });
}

/** Sessions compiled in each of `passes` passes through `layers` layers of two sessions, each asked for in two chunks. */
async function compiled(layers: number, limits: Limits, passes: number): Promise<number[]> {
  const cache = new SessionCache(runtime, { keepFloat32Weights: false, ...limits }, 4);
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
  const roomFor = (sessions: number): Limits => ({ sessionBytes: sessions * bytesEach });
  it.each<[string, number, Limits, number[]]>([
    ["all fit: compiled once", 4, roomFor(8), [8, 0, 0]],
    // Of 20 sessions in room for 12, eight stay for good; of the last four, those of the lowest layers go first.
    ["what came first stays", 10, roomFor(12), [20, 12, 12]],
    ["room for one layer: each session once a layer, whatever the chunks", 5, roomFor(2), [10, 10, 10]],
    ["room for nothing still runs", 2, roomFor(0), [8, 8, 8]],
    // Of two threads a session, one is the caller's; each session maps one tensor of a file.
    ["no more threads than may wait", 10, { sessionBytes: 1e9, waitingThreads: 12 }, [20, 12, 12]],
    ["no more maps than may be made", 10, { sessionBytes: 1e9, mappedTensors: 12 }, [20, 12, 12]],
  ])("%s", async (_what, layers, limits, expected) => {
    expect(await compiled(layers, limits, expected.length)).toEqual(expected);
  });
});

describe("sessions of methods", () => {
  afterEach(() => vi.restoreAllMocks());

  /** Counts sessions that live; the named one fails to compile. */
  function counted(failing = -1) {
    const counts = { made: 0, live: 0, most: 0 };
    const release = () => {
      counts.live -= 1;
      return Promise.resolve();
    };
    vi.spyOn(BlockSession, "create").mockImplementation(() => {
      if (counts.made++ === failing) return Promise.reject(new Error("does not compile"));
      counts.live += 1;
      counts.most = Math.max(counts.most, counts.live);
      return Promise.resolve({ release } as unknown as BlockSession);
    });
    return counts;
  }
  const engine = () => new LayerEngine(runtime, {} as Checkpoint, 4);

  it("of a layer's experts stay within the limit of waiting threads", async () => {
    const counts = counted();
    const methods = engine();
    const graph = graphOf();
    for (let expert = 0; expert < 3000; expert++) await methods.get(`output ${expert}`, () => graph);
    expect(counts).toMatchObject({ made: 3000, most: 2048 });
    await methods.close();
    expect(counts.live).toBe(0);
  });

  it("are compiled once, however many ask at once", async () => {
    const counts = counted();
    const methods = engine();
    const [one, other] = await Promise.all([methods.get("a", graphOf), methods.get("a", graphOf)]);
    expect(one).toBe(other);
    await methods.close();
    expect(counts).toEqual({ made: 1, live: 0, most: 1 });
  });

  it("are all given back where one failed", async () => {
    const counts = counted(1);
    const methods = engine();
    await methods.get("a", graphOf);
    await expect(methods.get("b", graphOf)).rejects.toThrow("does not compile");
    await methods.get("c", graphOf);
    await methods.close();
    expect(counts.live).toBe(0);
  });

  it("of products are all given back where one failed", async () => {
    const counts = counted(0);
    const products = new MatrixProducts(runtime);
    const a = matrix(40, 40);
    await expect(products.multiply(a, a)).rejects.toThrow("does not compile");
    // The stand-in of the second one cannot run.
    await expect(products.multiply(a, a, true)).rejects.toThrow();
    await products.close();
    expect(counts.live).toBe(0);
  });
});
