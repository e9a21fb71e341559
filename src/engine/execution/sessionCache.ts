import type { Graph } from "../graph/graph";
import { BlockSession, type RuntimeOptions } from "../runtime/session";

/** Sessions of one layer that take turns, chunk by chunk: two blocks, a router's fit, and one to spare. */
const inTurn = 4;

/**
 * Compiled sessions whose estimated bytes stay within the budget. Passes go through all layers in the same order again and
 * again, so releasing the oldest session would release each one just before it is needed: the ones that came first stay,
 * and what does not fit makes room for its successor.
 */
export class SessionCache {
  /** In the order they were made. */
  readonly #sessions = new Map<string, { session: BlockSession; bytes: number }>();
  #bytes = 0;

  constructor(
    readonly runtime: RuntimeOptions,
    readonly keepFloat32Weights: boolean,
    readonly budgetBytes: number,
  ) {}

  async get(key: string, graph: () => Graph): Promise<BlockSession> {
    const known = this.#sessions.get(key);
    if (known !== undefined) return known.session;
    const built = graph();
    const bytes = sessionBytes(built, this.keepFloat32Weights);
    while (this.#bytes + bytes > this.budgetBytes && this.#sessions.size > 0) {
      await this.#evict([...this.#sessions.keys()].at(-inTurn) ?? this.#sessions.keys().next().value!);
    }
    const session = await BlockSession.create(built, {
      runtime: this.runtime,
      keepFloat32Weights: this.keepFloat32Weights,
    });
    this.#sessions.set(key, { session, bytes });
    this.#bytes += bytes;
    return session;
  }

  async close(): Promise<void> {
    for (const key of [...this.#sessions.keys()]) await this.#evict(key);
  }

  async #evict(key: string): Promise<void> {
    const entry = this.#sessions.get(key)!;
    this.#sessions.delete(key);
    this.#bytes -= entry.bytes;
    await entry.session.release();
  }
}

/** Measured: about 6 kB of kernels and bookkeeping a node; mapped weights are page cache and cost nothing here. */
function sessionBytes(graph: Graph, keepFloat32Weights: boolean): number {
  const weights = graph.initialisers.reduce(
    (sum, { value, kind }) => sum + (kind === "file" ? value.shape.reduce<number>((n, dim) => n * Number(dim), 4) : 0),
    0,
  );
  return graph.nodes.length * 6000 + (keepFloat32Weights ? weights : 0);
}
