import type { TokenSequences } from "../data/sequences";
import { RerouteError } from "../../protocol/errors";
import type { ReportProgress } from "../../protocol/progress";
import { chunks, LayerEngine } from "../compression/layer/layerEngine";
import { solveSymmetric } from "../linalg/cholesky";
import { matrix } from "../linalg/matrix";
import { MatrixProducts } from "../linalg/products";
import { tokenBatch } from "../execution/batches";
import type { ModelExecutor } from "../execution/modelExecutor";
import type { RouterFit } from "../execution/passOptions";
import { moeLayers } from "../model/moeLayers";
import { weightKey } from "../graph/blocks/weights";
import type { RouterLogitTargets } from "./routerLogitTargets";

/**
 * Sum of squared changes allowed for each squared logit error, relative to the mean squared router input. Inputs of a
 * router are far from independent; without it, rarely seen directions would get large weights.
 */
export const routerFitRidge = 1e-3;

export interface InitialiseOptions {
  executor: ModelExecutor;
  /** The first training sequences. */
  sequences: TokenSequences;
  targets: RouterLogitTargets;
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
}

/**
 * Router-logit matching in closed form, layer after layer in one pass: with x the inputs of a student's router and r the
 * teacher's logits minus its own,
 *   dW = argmin sum_t ||dW x_t - r_t||^2 + lambda ||dW||^2 = (X^T X + lambda I)^-1 X^T R,  lambda = ridge mean(diag(X^T X)),
 * and W + dW stands in the executor's parameters before the layer routes, so the next layer sees what it changes. Biases of
 * routers stay.
 *
 * @throws RerouteError model/unsupported-option where a router reads something else than its experts;
 *   checkpoint/not-finite, cancelled, and what running raises
 */
export async function initialiseRouters({
  executor,
  sequences,
  targets,
  signal,
  report,
}: InitialiseOptions): Promise<void> {
  const { description, checkpoint, runtime } = executor.options;
  for (const {
    layer: index,
    moe: { router },
  } of moeLayers(description)) {
    if (router.input === undefined) continue;
    throw new RerouteError(
      "model/unsupported-option",
      `The router of layer ${index} of this ${description.family} checkpoint reads hidden states that its experts do not, which fitting ` +
        "routers in closed form does not follow; leave routers as they are at the start of calibration (no initialisation)",
    );
  }
  const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
  const products = new MatrixProducts(runtime);
  const batch = tokenBatch(sequences);
  try {
    const fit = new LeastSquares(executor, engine, products, targets, batch.valid);
    let done = 0;
    const onChunk = (tokens: number) => {
      done += tokens / description.layers.length;
      const [total, message] = [batch.ids.length, "Matching router logits"];
      report?.({ stage: "calibrate", message, done: Math.round(done), total, unit: "tokens" });
    };
    const hidden = await executor.forward(batch, { routerFit: fit, signal, onChunk });
    hidden.close();
  } finally {
    await engine.close();
    await products.close();
  }
}

class LeastSquares implements RouterFit {
  readonly #keys: ReadonlyMap<number, string>;
  #gram = new Float64Array(0);
  #cross = new Float64Array(0);

  constructor(
    readonly executor: ModelExecutor,
    readonly engine: LayerEngine,
    readonly products: MatrixProducts,
    readonly targets: RouterLogitTargets,
    readonly valid: Uint8Array | undefined,
  ) {
    const layers = moeLayers(executor.options.description);
    this.#keys = new Map(layers.map(({ layer: index, moe: { router } }) => [index, weightKey(router.weight)]));
  }

  async add(layer: number, firstToken: number, x: Float32Array, logits: Float32Array): Promise<void> {
    const { width, experts, sequenceLength } = this.#sizes(layer);
    if (this.#gram.length === 0) {
      this.#gram = new Float64Array(width * width);
      this.#cross = new Float64Array(width * experts);
    }
    const rows = x.length / width;
    const first = firstToken / sequenceLength;
    const numbers = Array.from({ length: rows / sequenceLength }, (_, i) => first + i);
    const residual = await this.targets.read(layer, numbers);
    for (let i = 0; i < residual.length; i++) residual[i]! -= logits[i]!;
    const counts = (row: number) => this.valid?.[firstToken + row] !== 0;
    const inputs = rowsWhere(x, width, counts);
    const differences = rowsWhere(residual, experts, counts);
    for (const [from, to] of chunks(inputs.length / width)) {
      const part = inputs.subarray(from * width, to * width);
      await this.engine.addGram(part, width, this.#gram);
      await this.engine.addCross(part, width, differences.subarray(from * experts, to * experts), experts, this.#cross);
    }
  }

  async fit(layer: number): Promise<void> {
    const { width, experts } = this.#sizes(layer);
    const gram = matrix(width, width, this.#gram);
    let trace = 0;
    for (let i = 0; i < width; i++) trace += gram.data[i * width + i]!;
    for (let i = 0; i < width; i++) gram.data[i * width + i]! += (routerFitRidge * trace) / width;
    const change = await solveSymmetric(this.products, gram, matrix(width, experts, this.#cross));
    const weights = this.executor.parameters.get(this.#keys.get(layer)!)!;
    for (let e = 0; e < experts; e++)
      for (let i = 0; i < width; i++) weights[e * width + i]! += change.data[i * experts + e]!;
    this.#gram = new Float64Array(0);
    this.#cross = new Float64Array(0);
  }

  #sizes(layer: number) {
    const { description, sequenceLength } = this.executor.options;
    return { width: description.hiddenSize, experts: this.targets.mapping.get(layer)!.length, sequenceLength };
  }
}

/** The rows of a matrix for which a condition holds. */
function rowsWhere(data: Float32Array, width: number, condition: (row: number) => boolean): Float32Array {
  const rows = Array.from({ length: data.length / width }, (_, row) => row).filter(condition);
  if (rows.length * width === data.length) return data;
  const result = new Float32Array(rows.length * width);
  rows.forEach((row, i) => result.set(data.subarray(row * width, (row + 1) * width), i * width));
  return result;
}
