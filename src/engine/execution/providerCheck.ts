import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import type { ExecutionProvider } from "../../protocol/recipe";
import type { Graph } from "../graph/graph";
import { GraphBuilder } from "../graph/builder";
import { compareNodes, type NodeDifference } from "../runtime/compareNodes";
import { BlockSession, type RuntimeOptions, type Tensor } from "../runtime/session";
import { checkVocabulary, makeCheckModel } from "./checkModel";
import { runForwardProbe, type ProbeModel } from "./probe";

/** A graph that a model's passes run, with what it was run on first. */
export interface SeenGraph {
  graph: Graph;
  feeds: Readonly<Record<string, Tensor>>;
}

/** What a provider does on this machine. */
export interface ProviderResult {
  /** The first result of a node that is not the CPU's; null where all are. */
  wrong: NodeDifference | null;
  /** How many times the CPU's speed a chain of products runs, its operands and result crossing; 0 where it is wrong. */
  speed: number;
}

const [batch, positions] = [2, 7];

/**
 * Every different graph of a forward pass, a distillation loss and a backward pass through a model: those with the same
 * operations once.
 */
export async function graphsOfModel(
  model: ProbeModel,
  teacher: ProbeModel | null,
  tokens: { inputIds: Int32Array; batch: number; positions: number },
  scratchDirectory: string,
): Promise<SeenGraph[]> {
  const seen = new Map<string, SeenGraph>();
  const watch = (graph: Graph, feeds: Readonly<Record<string, Tensor>>): void => {
    const shapes = graph.nodes.map(({ op, outputs, attributes }) => [op, outputs.map((v) => v.shape), attributes]);
    const key = JSON.stringify(shapes);
    if (!seen.has(key)) seen.set(key, { graph, feeds: copied(feeds) });
  };
  const runtime = { threads: 1, provider: "cpu", memoryBudgetBytes: 2e9, watch } as const;
  await runForwardProbe({ model, teacher, ...tokens, runtime, scratchDirectory });
  return [...seen.values()];
}

/**
 * Compares a provider with the CPU on this machine, node by node, on a small model of its own: a forward pass, the
 * distillation loss and a backward pass. Takes a second on a graphics card.
 *
 * @throws RerouteError runtime/provider where the provider cannot be used, runtime/failed
 */
export async function examineProvider(provider: ExecutionProvider): Promise<ProviderResult> {
  const directory = await mkdtemp(path.join(tmpdir(), "reroute-provider-"));
  try {
    const runtime = { threads: 1, provider, memoryBudgetBytes: 2e9 };
    const [model, teacher] = [
      await makeCheckModel(path.join(directory, "student"), 1),
      await makeCheckModel(path.join(directory, "teacher"), 2),
    ];
    const inputIds = Int32Array.from({ length: batch * positions }, (_, i) => (i * 37) % checkVocabulary);
    for (const { graph, feeds } of await graphsOfModel(model, teacher, { inputIds, batch, positions }, directory)) {
      const [wrong] = await compareNodes(graph, feeds, runtime);
      if (wrong !== undefined) return { wrong, speed: 0 };
    }
    return { wrong: null, speed: await speedOf(runtime) };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Small matrices tell a driver on the processor; those of a real card are measured at sizes that occupy it. */
async function speedOf(runtime: RuntimeOptions): Promise<number> {
  const ratio = async (size: number) =>
    (await millisecondsOfProducts({ ...runtime, provider: "cpu" }, size)) /
    (await millisecondsOfProducts(runtime, size));
  const small = await ratio(96);
  return small < 0.02 ? small : ratio(768);
}

/** Milliseconds of x^5 of a square matrix that comes from the host, the best of three. */
async function millisecondsOfProducts(runtime: RuntimeOptions, size: number): Promise<number> {
  const builder = new GraphBuilder();
  const x = builder.input("x", [size, size]);
  const product = [1, 2, 3, 4].reduce((result) => builder.gemm(result, x, false, false), x);
  const session = await BlockSession.create(builder.build({ product }), { runtime, keepFloat32Weights: false });
  try {
    const data = new Float32Array(size ** 2).fill(1 / size);
    const feeds = { x: { type: "float32", shape: [size, size], data } } as const;
    let best = Infinity;
    for (let round = 0; round < 3; round++) {
      const started = performance.now();
      await session.run(feeds);
      best = Math.min(best, performance.now() - started);
    }
    return best;
  } finally {
    await session.release();
  }
}

/** Runs reuse the arrays that they were given. */
function copied(feeds: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(Object.entries(feeds).map(([name, feed]) => [name, { ...feed, data: feed.data.slice() }]));
}
