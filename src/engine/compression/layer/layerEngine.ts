import type { Checkpoint } from "../../checkpoint/checkpoint";
import { assignExperts } from "../../execution/assignment";
import { expertGroups, type ExpertGroup } from "../../execution/expertGroups";
import { RoutedExperts } from "../../execution/routedExperts";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { HiddenStates } from "../../execution/hiddenStates";
import { SessionCache } from "../../execution/sessionCache";
import { float32, floats } from "../../execution/tensors";
import type { Graph } from "../../graph/graph";
import type { MoeDescription } from "../../model/description";
import type { BlockSession, RuntimeOptions, Tensor } from "../../runtime/session";
import type { ExpertMatrices } from "./expertMatrices";
import {
  crossGraph,
  everyTokenGraph,
  expertOutputGraph,
  gramGraph,
  intermediateGraph,
  timesTransposedGraph,
} from "./layerGraphs";

/** Tokens that one run takes. */
export const chunkTokens = 1024;

/** Compiled graphs may take this much, or a tenth of the budget where that is more. */
const leastSessionBytes = 2 ** 26;
/** Graphs that one question about a layer runs in turn, at most. */
const graphsInTurn = 16;

/** What methods ask about the experts of one layer, run on the engine. Sessions stay within the limits of their cache. */
export class LayerEngine {
  readonly #sessions: SessionCache;

  constructor(
    readonly runtime: RuntimeOptions,
    readonly checkpoint: Checkpoint,
    readonly hiddenSize: number,
  ) {
    const sessionBytes = Math.max(leastSessionBytes, runtime.memoryBudgetBytes / 10);
    this.#sessions = new SessionCache(runtime, { keepFloat32Weights: false, sessionBytes }, graphsInTurn);
  }

  /** See everyTokenGraph. `weightsOf` fills the two [rows, E] matrices of the tokens from `from` on. */
  async allExperts(
    { layer, moe, inputs, numTokens }: CollectedLayer,
    weightsOf: (from: number, rows: number) => { columns: Float32Array; norms: Float32Array },
  ): Promise<{ sums: Float64Array; norms: Float64Array }> {
    const E = moe.numExperts;
    const sums = new Float64Array(E * this.hiddenSize);
    const norms = new Float64Array(E);
    for (const [from, to] of chunks(numTokens)) {
      const { columns, norms: normWeights } = weightsOf(from, to - from);
      const x = float32(inputs.read(from, to), [to - from, this.hiddenSize]);
      for (const group of expertGroups(E)) {
        const outputs = await this.#run(
          `every token ${layer.index} ${group.from}`,
          () => everyTokenGraph(this.checkpoint, moe, group, this.hiddenSize),
          { x, columnWeights: columnsOf(columns, E, group), normWeights: columnsOf(normWeights, E, group) },
        );
        accumulate(sums.subarray(group.from * this.hiddenSize), outputs["sums"]!);
        accumulate(norms.subarray(group.from), outputs["norms"]!);
      }
    }
    return { sums, norms };
  }

  /** One expert's outputs for rows x, [rows, H], or projected to [rows, D]. */
  async expertOutput(
    moe: MoeDescription,
    expert: number,
    x: Float32Array,
    projection: { values: Float32Array; columns: number } | null,
  ): Promise<Float32Array> {
    const rows = x.length / this.hiddenSize;
    const outputs = await this.#run(
      `output ${expert} ${moe.router.weight.tensor}`,
      () => expertOutputGraph(this.checkpoint, moe, expert, this.hiddenSize, projection?.columns ?? null),
      {
        x: float32(x, [rows, this.hiddenSize]),
        ...(projection === null
          ? {}
          : { projection: float32(projection.values, [this.hiddenSize, projection.columns]) }),
      },
    );
    return floats(outputs["y"]!);
  }

  /** Intermediate activations [rows, I] of an expert in memory for rows x. */
  async intermediate(moe: MoeDescription, expert: ExpertMatrices, x: Float32Array): Promise<Float32Array> {
    const { gateProj, upProj, gateBias, upBias, intermediateSize: I, hiddenSize: H } = expert;
    const biased = gateBias !== null;
    const outputs = await this.#run(
      `intermediate ${biased} ${JSON.stringify(moe.activation)}`,
      () => intermediateGraph(moe, biased),
      {
        x: float32(x, [x.length / H, H]),
        gateProj: float32(gateProj, [I, H]),
        upProj: float32(upProj, [I, H]),
        ...(biased ? { gateBias: float32(gateBias, [I]), upBias: float32(upBias!, [I]) } : {}),
      },
    );
    return floats(outputs["h"]!);
  }

  /** Adds a^T a, and the column sums where wanted, for a [rows, width]. */
  async addGram(a: Float32Array, width: number, gram: Float64Array, sums?: Float64Array): Promise<void> {
    if (a.length === 0) return;
    const outputs = await this.#run("gram", gramGraph, { a: float32(a, [a.length / width, width]) });
    accumulate(gram, outputs["gram"]!);
    if (sums) accumulate(sums, outputs["sums"]!);
  }

  /**
   * Adds the lower triangle of X^T X, row i up to column i, and the column sums, for X given as blocks of columns [rows, width]: one
   * product of two blocks at a time.
   */
  async addTriangle(
    blocks: readonly Float32Array[],
    width: number,
    triangle: readonly Float64Array[],
    sums: Float64Array,
  ): Promise<void> {
    for (const [e, block] of blocks.entries()) {
      const a = float32(block, [block.length / width, width]);
      const own = await this.#run("gram", gramGraph, { a });
      accumulate(sums.subarray(e * width), own["sums"]!);
      for (let f = 0; f <= e; f++) {
        const b = float32(blocks[f]!, a.shape);
        const product = f === e ? own["gram"]! : (await this.#run("cross", crossGraph, { a, b }))["c"]!;
        const values = floats(product);
        for (let i = 0; i < width; i++) {
          const row = triangle[e * width + i]!;
          const columns = f === e ? i + 1 : width;
          for (let j = 0; j < columns; j++) row[f * width + j]! += values[i * width + j]!;
        }
      }
    }
  }

  /** Adds a^T b for a [rows, m], b [rows, n]. */
  async addCross(a: Float32Array, m: number, b: Float32Array, n: number, sum: Float64Array): Promise<void> {
    if (a.length === 0) return;
    const rows = a.length / m;
    const outputs = await this.#run("cross", crossGraph, { a: float32(a, [rows, m]), b: float32(b, [rows, n]) });
    accumulate(sum, outputs["c"]!);
  }

  /** a b^T for a [rows, m], b [n, m]. */
  async timesTransposed(a: Float32Array, b: Float32Array, m: number): Promise<Float32Array> {
    const outputs = await this.#run("times transposed", timesTransposedGraph, {
      a: float32(a, [a.length / m, m]),
      b: float32(b, [b.length / m, m]),
    });
    return floats(outputs["c"]!);
  }

  /** The routed experts' output of some tokens, [rows, H], for logits [rows, E'] and the selection made from them. */
  async routed(
    key: string,
    checkpoint: Checkpoint,
    moe: MoeDescription,
    x: Float32Array,
    logits: Float32Array,
    selectedIds: Int32Array,
  ): Promise<Float32Array> {
    const { hiddenSize } = this;
    const { routedNorm: _, ...summed } = moe;
    const { numExpertsPerToken, numExperts, logicalToPhysical } = moe;
    const tokens = x.length / hiddenSize;
    const assignment = assignExperts(selectedIds, tokens, numExpertsPerToken, numExperts, logicalToPhysical);
    const chunk = { feedForwardInput: x, routerLogits: logits, selectedIds, assignment, weights: {} };
    const experts = new RoutedExperts({ checkpoint, hiddenSize, trainable: new Set() }, this);
    const layer = { index: key, feedForwardMultiplier: 1, feedForwardOutputNorm: null };
    // The executor's own steps, on nothing to add to: what comes out is the routed sum alone.
    const nothing = new Float32Array(x.length);
    return (await experts.forward(layer, { ...summed, shared: null }, chunk, nothing, null)).hidden;
  }

  close(): Promise<void> {
    return this.#sessions.close();
  }

  /** The compiled graph of this name, to be run before the next is asked for. */
  get(key: string, graph: () => Graph): Promise<BlockSession> {
    return this.#sessions.get(key, graph);
  }

  async #run(key: string, graph: () => Graph, feeds: Record<string, Tensor>): Promise<Record<string, Tensor>> {
    return (await this.get(key, graph)).run(feeds);
  }
}

/** [from, to) of at most `size` tokens each. */
export function chunks(numTokens: number, size = chunkTokens): [number, number][] {
  return Array.from({ length: Math.ceil(numTokens / size) }, (_, i) => [i * size, Math.min(numTokens, (i + 1) * size)]);
}

/** Rows of some tokens (ascending), [tokens, width]. */
export function gatherRows(states: HiddenStates, tokens: ArrayLike<number>): Float32Array {
  const rows = new Float32Array(tokens.length * states.width);
  for (let i = 0; i < tokens.length; i++) rows.set(states.read(tokens[i]!, tokens[i]! + 1), i * states.width);
  return rows;
}

/** Tokens routed to each expert, ascending. */
export function tokensOfExperts({ moe, numTokens, selectedIds }: CollectedLayer): Int32Array[] {
  const k = moe.numExpertsPerToken;
  const lists = Array.from({ length: moe.numExperts }, (): number[] => []);
  for (let slot = 0; slot < numTokens * k; slot++) lists[selectedIds[slot]!]!.push(Math.floor(slot / k));
  return lists.map((list) => Int32Array.from(list));
}

/** Tokens routed to any of some experts, ascending, each once. */
export function tokensOfAny(byExpert: readonly Int32Array[], experts: readonly number[]): Int32Array {
  const tokens = new Set(experts.flatMap((expert) => [...byExpert[expert]!]));
  return Int32Array.from(tokens).sort();
}

/** Tokens of each of some experts one after the other: one routed to two of them is there twice. */
export function tokensJoined(byExpert: readonly Int32Array[], experts: readonly number[]): Int32Array {
  return Int32Array.from(experts.flatMap((expert) => [...byExpert[expert]!]));
}

/** Some columns of a matrix [rows, width]. */
function columnsOf(values: Float32Array, width: number, { from, to }: ExpertGroup): Tensor {
  const rows = values.length / width;
  const part = new Float32Array(rows * (to - from));
  for (let row = 0; row < rows; row++)
    part.set(values.subarray(row * width + from, row * width + to), row * (to - from));
  return float32(part, [rows, to - from]);
}

function accumulate(sum: Float64Array, part: Tensor): void {
  const values = floats(part);
  for (let i = 0; i < values.length; i++) sum[i]! += values[i]!;
}
