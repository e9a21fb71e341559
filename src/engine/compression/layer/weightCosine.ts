import { throwIfCancelled } from "../../../protocol/errors";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { readFloat32Rows } from "../../checkpoint/read";
import { GraphBuilder } from "../../graph/builder";
import type { ExpertWeights, WeightView } from "../../model/description";
import { BlockSession, type RuntimeOptions } from "../../runtime/session";
import { elementCount } from "../../tensor/dtype";

/** Numbers of all experts together that are in memory at a time, as far as that is a small part of the budget. */
const mostNumbers = 16 << 20;

/** Numbers of all experts together that are multiplied at a time, which decide the last bits. */
export function cosinePieces({ memoryBudgetBytes }: RuntimeOptions): number {
  return Math.floor(Math.min(mostNumbers, memoryBudgetBytes / 64));
}

/** Cosines of experts' weights, a layer at a time: one compiled product, weights read in pieces. */
export class WeightCosine {
  #gram: Promise<BlockSession> | undefined;
  #rows = new Float32Array(0);

  constructor(
    readonly checkpoint: Checkpoint,
    readonly runtime: RuntimeOptions,
    readonly numbers = cosinePieces(runtime),
  ) {}

  /**
   * Cosine of every pair of a layer's experts, [E, E] row-major, symmetric: the three projections of an expert as one
   * vector, biases left out. NaN in rows and columns of experts that are zero throughout. Null where experts are stored as
   * codes or factors or were replaced by constants: numbers of equal place do not mean the same there.
   *
   * @throws RerouteError cancelled, and what reading and running raise
   */
  async ofLayer(experts: readonly ExpertWeights[], signal: AbortSignal): Promise<Float64Array | null> {
    const parts = experts.map(projectionViews);
    const sizes = parts[0]?.map(({ shape }) => elementCount(shape)) ?? [];
    const isPlain = parts.every((views, e) => experts[e]!.constant === undefined && views.every(hasSize(sizes)));
    if (experts.length === 0 || !isPlain) return null;
    const E = experts.length;
    // Even, so that no row begins inside a byte.
    const length = 2 * Math.max(1, Math.floor(this.numbers / E / 2));
    const gram = new Float64Array(E * E);
    for (const [part, size] of sizes.entries()) {
      for (let from = 0; from < size; from += length) {
        throwIfCancelled(signal);
        const count = Math.min(length, size - from);
        const views = parts.map((views) => views[part]!);
        add(gram, await this.#gramOf(views, from, count));
      }
    }
    return gram.map((_, at) => {
      const [i, j] = [Math.floor(at / E), at % E];
      return gram[Math.min(i, j) * E + Math.max(i, j)]! / Math.sqrt(gram[i * E + i]! * gram[j * E + j]!);
    });
  }

  async close(): Promise<void> {
    await (await this.#gram)?.release();
    this.#gram = undefined;
  }

  /** [E, E] products of `count` numbers of each view from `from` on. */
  async #gramOf(views: readonly WeightView[], from: number, count: number): Promise<Float32Array> {
    if (this.#rows.length < views.length * count) this.#rows = new Float32Array(views.length * count);
    const rows = this.#rows.subarray(0, views.length * count);
    const parts = views.map(({ tensor, offset }) => ({
      entry: this.checkpoint.tensors.get(tensor)!,
      offset: offset + from,
    }));
    await readFloat32Rows(parts, count, rows);
    this.#gram ??= gramSession(this.runtime);
    const { c } = await (await this.#gram).run({ a: { type: "float32", shape: [views.length, count], data: rows } });
    return c!.data as Float32Array;
  }
}

function gramSession(runtime: RuntimeOptions): Promise<BlockSession> {
  const builder = new GraphBuilder("float32");
  const a = builder.input("a", ["E", "N"]);
  return BlockSession.create(builder.build({ c: builder.gemm(a, a, false, true) }), {
    runtime,
    keepFloat32Weights: false,
  });
}

function projectionViews({ gateUp, downProj }: ExpertWeights): WeightView[] {
  const linears =
    gateUp.kind === "separate" ? [gateUp.gateProj, gateUp.upProj, downProj] : [gateUp.projection, downProj];
  return linears.map(({ weight }) => weight);
}

function hasSize(sizes: readonly number[]): (view: WeightView, part: number) => boolean {
  return ({ shape, quantisation }, part) => quantisation === undefined && elementCount(shape) === sizes[part];
}

function add(into: Float64Array, values: Float32Array): void {
  for (let i = 0; i < into.length; i++) into[i]! += values[i]!;
}
