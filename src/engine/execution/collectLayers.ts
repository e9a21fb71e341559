import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import type { ReportProgress } from "../../protocol/progress";
import type { Checkpoint } from "../checkpoint/checkpoint";
import type { TokenSequences } from "../data/sequences";
import type { LayerDescription, ModelDescription, MoeDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { tokenBatch } from "./batches";
import { FileHiddenStates, MemoryHiddenStates, type HiddenStates } from "./hiddenStates";
import { ModelExecutor } from "./modelExecutor";
import { moeLayers, numLogits } from "../model/moeLayers";
import type { MoeObservation, RoutingObserver } from "./observer";

/** What all calibration tokens did in one MoE layer. Padding is left out; valid until the handler returns. */
export interface CollectedLayer {
  layer: LayerDescription;
  moe: MoeDescription;
  numTokens: number;
  /** [numTokens, hidden]: what router and experts see, after the norm. */
  inputs: HiddenStates;
  /** [numTokens, experts] */
  routerLogits: Float32Array;
  /** [numTokens, k], ascending in each token. */
  selectedIds: Int32Array;
  /** [numTokens, k]: the number that multiplies each selected expert's output. */
  routingWeights: Float32Array;
  /** Domain of each token, and the sequence it is from. */
  domainIds: Uint8Array;
  sequenceIds: Int32Array;
  /**
   * Adds rows to the layer's output, so that later layers see what the compressed layer would give.
   * @param rows [to - from, hidden]
   */
  addToOutput: (from: number, rows: Float32Array) => void;
}

export interface CollectLayersOptions {
  checkpoint: Checkpoint;
  description: ModelDescription;
  sequences: TokenSequences;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  /** Called layer by layer; the next layer waits. */
  onLayer: (collected: CollectedLayer) => Promise<void>;
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
}

/**
 * One streaming pass that hands each MoE layer's inputs and routing to a method, one layer at a time: memory holds one
 * layer's inputs (spilled to disk past the budget), whatever the depth.
 *
 * @throws RerouteError checkpoint/not-finite naming the layer where activations are NaN or infinite
 */
export async function collectLayers(options: CollectLayersOptions): Promise<void> {
  const { sequences, description, onLayer, report, signal } = options;
  const executor = await ModelExecutor.open({
    ...options,
    sequenceLength: sequences.sequenceLength,
    direction: "forward",
  });
  const tokens = new TokenIndex(sequences);
  const layers = new Map(
    moeLayers(description).map(({ layer, moe }) => [layer, { layer: description.layers[layer]!, moe }]),
  );
  let store: LayerStore | null = null;
  let done = 0;
  const observer: RoutingObserver = {
    observe: (observation) => {
      throwIfCancelled(signal);
      store ??= new LayerStore(observation, tokens, layers.get(observation.layer)!, executor, options.scratchDirectory);
      store.add(observation);
    },
    afterLayer: async (_layer, hidden) => {
      const collected = store!;
      store = null;
      try {
        await onLayer(collected.result(hidden));
      } finally {
        collected.close();
      }
      done += 1;
      report?.({
        stage: "compress",
        message: "Looking at the experts of each layer",
        done,
        total: layers.size,
        unit: "steps",
      });
    },
  };
  try {
    const hidden = await executor.forward(tokenBatch(sequences), { observer, signal });
    hidden.close();
  } finally {
    (store as LayerStore | null)?.close();
    await executor.close();
  }
}

/** Which rows of the padded batch are tokens. */
class TokenIndex {
  readonly count: number;
  /** Batch row -> token, or -1 for padding. */
  readonly tokenOfRow: Int32Array;
  readonly rowOfToken: Int32Array;
  readonly domainIds: Uint8Array;
  readonly sequenceIds: Int32Array;

  constructor({ numSequences, sequenceLength, lengths, domainIds }: TokenSequences) {
    this.tokenOfRow = new Int32Array(numSequences * sequenceLength).fill(-1);
    const rows: number[] = [];
    for (let s = 0; s < numSequences; s++) {
      for (let i = 0; i < lengths[s]!; i++) {
        this.tokenOfRow[s * sequenceLength + i] = rows.length;
        rows.push(s * sequenceLength + i);
      }
    }
    this.rowOfToken = Int32Array.from(rows);
    this.count = rows.length;
    this.domainIds = Uint8Array.from(rows, (row) => domainIds[row]!);
    this.sequenceIds = Int32Array.from(rows, (row) => Math.floor(row / sequenceLength));
  }
}

class LayerStore {
  readonly #inputs: HiddenStates;
  readonly #logits: Float32Array;
  readonly #ids: Int32Array;
  readonly #weights: Float32Array;

  constructor(
    { hiddenSize }: MoeObservation,
    readonly tokens: TokenIndex,
    readonly block: { layer: LayerDescription; moe: MoeDescription },
    executor: ModelExecutor,
    scratchDirectory: string,
  ) {
    const { count } = tokens;
    const { moe } = block;
    const fits = count * hiddenSize * 4 <= executor.plan.hiddenStateBytes;
    this.#inputs = fits
      ? new MemoryHiddenStates(count, hiddenSize)
      : new FileHiddenStates(count, hiddenSize, scratchDirectory);
    this.#logits = new Float32Array(count * numLogits(moe));
    this.#ids = new Int32Array(count * moe.numExpertsPerToken);
    this.#weights = new Float32Array(count * moe.numExpertsPerToken);
  }

  add(observation: MoeObservation): void {
    const { firstToken, numTokens, hiddenSize, numRouterRows, numExpertsPerToken: k, feedForwardInput } = observation;
    const { routerLogits, selectedIds, routingWeights } = observation;
    this.#checkFinite(routerLogits);
    this.#checkFinite(feedForwardInput!);
    // Tokens of one sequence lie together, so rows are moved in runs without padding between.
    for (let from = 0; from < numTokens;) {
      const token = this.tokens.tokenOfRow[firstToken + from]!;
      let to = from + 1;
      if (token >= 0) {
        while (to < numTokens && this.tokens.tokenOfRow[firstToken + to]! >= 0) to++;
        this.#inputs.write(token, feedForwardInput!.subarray(from * hiddenSize, to * hiddenSize));
        this.#logits.set(routerLogits.subarray(from * numRouterRows, to * numRouterRows), token * numRouterRows);
        this.#ids.set(selectedIds.subarray(from * k, to * k), token * k);
        this.#weights.set(routingWeights.subarray(from * k, to * k), token * k);
      }
      from = to;
    }
  }

  result(hidden: HiddenStates): CollectedLayer {
    const { count, rowOfToken, domainIds, sequenceIds } = this.tokens;
    return {
      ...this.block,
      numTokens: count,
      inputs: this.#inputs,
      routerLogits: this.#logits,
      selectedIds: this.#ids,
      routingWeights: this.#weights,
      domainIds,
      sequenceIds,
      addToOutput: (from, rows) => {
        const { width } = hidden;
        for (let i = 0; i < rows.length / width; i++) {
          const row = rowOfToken[from + i]!;
          const changed = hidden.read(row, row + 1).slice();
          for (let h = 0; h < width; h++) changed[h]! += rows[i * width + h]!;
          hidden.write(row, changed);
        }
      },
    };
  }

  close(): void {
    this.#inputs.close();
  }

  #checkFinite(values: Float32Array): void {
    for (let i = 0; i < values.length; i++) {
      if (Number.isFinite(values[i]!)) continue;
      throw new RerouteError(
        "checkpoint/not-finite",
        `The activations of layer ${this.block.layer.index} contain NaN or infinity, so no expert there can be compared; ` +
          "look for damaged weights in this layer or before it",
      );
    }
  }
}
