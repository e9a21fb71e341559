import type { Graph } from "../graph/graph";
import { bytesPerNode } from "./compiledBytes";
import { BlockSession, type RuntimeOptions } from "../runtime/session";

/** What compiled sessions take, together or each. */
interface Cost {
  bytes: number;
  /** Tensors of files, each of which onnxruntime maps on its own. */
  mapped: number;
  /** Threads that wait for work. */
  threads: number;
}

export interface SessionLimits {
  keepFloat32Weights: boolean;
  /** Estimated bytes that sessions may take. */
  sessionBytes: number;
  /** Tensors of files that they may map; below what the system gives a process by default. */
  mappedTensors?: number;
  /** Threads that they may have waiting. */
  waitingThreads?: number;
}

/** Linux gives a process 65,530 maps; a teacher and a student run in one, beside what else they map. */
const mostMapped = 24_000;
/** Every session has threads of its own, and so have those of another model in the same process. */
const mostThreads = 2048;

/**
 * Compiled sessions that stay within limits. Passes go through all layers in the same order again and again, so releasing
 * the oldest session would release each one just before it is needed: the ones that came first stay, and what does not fit
 * makes room for its successor.
 */
export class SessionCache {
  /** In the order they were made. */
  readonly #sessions = new Map<string, { session: BlockSession; cost: Cost }>();
  /** The last compilation, done or failed. */
  #last: Promise<unknown> = Promise.resolve();
  readonly #used: Cost = { bytes: 0, mapped: 0, threads: 0 };
  /** What compiling has taken so far. */
  compileSeconds = 0;

  /** @param inTurn sessions of one layer that take turns, chunk by chunk, so that none of them may make room for another */
  constructor(
    readonly runtime: RuntimeOptions,
    readonly limits: SessionLimits,
    readonly inTurn: number,
  ) {}

  /** The compiled graph of this name; one is compiled at a time, so that nothing is compiled twice. */
  get(key: string, graph: () => Graph): Promise<BlockSession> {
    const known = this.#sessions.get(key);
    if (known !== undefined) return Promise.resolve(known.session);
    const made = this.#last.then(() => this.#make(key, graph));
    this.#last = made.catch(() => undefined);
    return made;
  }

  async #make(key: string, graph: () => Graph): Promise<BlockSession> {
    const known = this.#sessions.get(key);
    if (known !== undefined) return known.session;
    const started = performance.now();
    const built = graph();
    const { keepFloat32Weights } = this.limits;
    const cost = costOf(built, keepFloat32Weights, this.runtime.threads);
    while (!this.#fits(cost) && this.#sessions.size > 0) {
      await this.#evict([...this.#sessions.keys()].at(-this.inTurn) ?? this.#sessions.keys().next().value!);
    }
    const session = await BlockSession.create(built, { runtime: this.runtime, keepFloat32Weights });
    this.#sessions.set(key, { session, cost });
    this.#count(cost, 1);
    this.compileSeconds += (performance.now() - started) / 1e3;
    return session;
  }

  async close(): Promise<void> {
    await this.#last;
    for (const key of [...this.#sessions.keys()]) await this.#evict(key);
  }

  #fits({ bytes, mapped, threads }: Cost): boolean {
    const used = this.#used;
    return (
      used.bytes + bytes <= this.limits.sessionBytes &&
      used.mapped + mapped <= (this.limits.mappedTensors ?? mostMapped) &&
      used.threads + threads <= (this.limits.waitingThreads ?? mostThreads)
    );
  }

  async #evict(key: string): Promise<void> {
    const entry = this.#sessions.get(key)!;
    this.#sessions.delete(key);
    this.#count(entry.cost, -1);
    await entry.session.release();
  }

  #count(cost: Cost, sign: 1 | -1): void {
    for (const what of ["bytes", "mapped", "threads"] as const) this.#used[what] += sign * cost[what];
  }
}

/**
 * Mapped weights are page cache and cost nothing here, but those of products with integers: onnxruntime keeps a copy of
 * them in the order that its kernel reads.
 */
function costOf(graph: Graph, keepFloat32Weights: boolean, threads: number): Cost {
  const files = graph.initialisers.filter(({ kind }) => kind === "file");
  const weights = files.reduce((sum, { value }) => sum + value.shape.reduce<number>((n, dim) => n * Number(dim), 4), 0);
  const reordered = new Set(graph.nodes.flatMap(({ op, inputs }) => (op === "MatMulNBits" ? [inputs[1]!] : [])));
  const copies = files.reduce(
    (sum, { value }) => sum + (reordered.has(value) ? value.shape.reduce<number>((n, dim) => n * Number(dim), 1) : 0),
    0,
  );
  return {
    bytes: graph.nodes.length * bytesPerNode + copies + (keepFloat32Weights ? weights : 0),
    mapped: files.length,
    threads: threads - 1,
  };
}
