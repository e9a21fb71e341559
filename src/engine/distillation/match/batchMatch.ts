import { assignExperts } from "../../execution/assignment";
import type { ModelExecutor } from "../../execution/modelExecutor";
import type { TokenBatch, FeedForwardTerms } from "../../execution/passOptions";
import { numLogits } from "../../model/moeLayers";
import type { LayerDescription } from "../../model/description";
import { expertTargets, expertTerm, type ExpertTargets } from "./expertTerm";
import type { LayerTargets, MatchedLayer } from "./layerTargets";
import type { MatchWeights } from "./matchMapping";
import { routerTerm } from "./routerTerm";

/**
 * What matching inside the model adds to the loss of one batch, and its gradients, exact through the whole student; each
 * term is a mean over the teacher's sparse layers and zero where both are equal:
 * - router: mean over tokens of KL(P_T || P_S), P_T on the student's experts
 * - experts: sum of w |f_g(x_S) - y|^2 over sum of w |y|^2, y what the teacher's experts behind g give at its own input
 * - feedForward: sum of |o_S - o_T|^2 over sum of |o_T|^2, o what the feed-forward half adds to the residual stream
 * Padding does not count. The student runs forward with `onFeedForward`, then backward with the other two.
 */
export class BatchMatch {
  /** Without weights; whole once the backward pass is done. */
  readonly losses: Record<keyof MatchWeights, number> = { router: 0, experts: 0, feedForward: 0 };
  readonly #counting: number;

  constructor(
    readonly teacher: ModelExecutor,
    readonly student: ModelExecutor,
    readonly match: MatchWeights,
    readonly layers: ReadonlyMap<number, MatchedLayer>,
    readonly targets: ReadonlyMap<number, LayerTargets>,
    readonly batch: TokenBatch,
  ) {
    const { valid, ids } = batch;
    this.#counting = valid === undefined ? ids.length : valid.reduce((sum, one) => sum + one, 0);
  }

  /** What is added to the loss. */
  get loss(): number {
    const { router = 0, experts = 0, feedForward = 0 } = this.match;
    return router * this.losses.router + experts * this.losses.experts + feedForward * this.losses.feedForward;
  }

  /** Replaces what the teacher adds to the residual stream by the gradient of the loss in what the student adds. */
  readonly onFeedForward = (layer: number, from: number, residual: Float32Array, output: Float32Array): void => {
    const added = this.targets.get(layer)?.added;
    if (!added || added.energy === 0) return;
    const { width } = added.rows;
    const rows = added.rows.read(from, from + output.length / width);
    const share = 1 / (added.energy * this.layers.size);
    const gradient = output.map((value, i) => {
      if (!this.#counts(from + Math.floor(i / width))) return 0;
      const error = value - residual[i]! - rows[i]!;
      this.losses.feedForward += share * error * error;
      return 2 * share * this.match.feedForward! * error;
    });
    added.rows.write(from, gradient);
  };

  /** Gradient in the student's router logits of a layer, of the same shape; zeros where routers are not matched. */
  readonly routerLogitGradient = (layer: number, logits: Float32Array): Promise<Float32Array> => {
    const { probabilities } = this.targets.get(layer) ?? { probabilities: null };
    if (probabilities === null) return Promise.resolve(new Float32Array(logits.length));
    const { student } = this.layers.get(layer)!;
    const rows = probabilities.read(0, probabilities.numTokens);
    const share = 1 / (this.#counting * this.layers.size);
    const shareOf = (token: number) => (this.#counts(token) ? share : 0);
    const { loss, gradient } = routerTerm(student!.routing, rows, logits, numLogits(student!), shareOf);
    this.losses.router += loss;
    for (let i = 0; i < gradient.length; i++) gradient[i]! *= this.match.router!;
    return Promise.resolve(gradient);
  };

  readonly terms: FeedForwardTerms = {
    inAdded: (layer, from, to) => this.targets.get(layer)?.added?.rows.read(from, to) ?? null,
    inInput: (layer, from, input, gradients) => this.#expertGradient(layer, from, input, gradients),
  };

  close(): void {
    for (const { probabilities, experts, added } of this.targets.values()) {
      probabilities?.close();
      experts?.input.close();
      added?.rows.close();
    }
  }

  async #expertGradient(
    layer: LayerDescription,
    from: number,
    feedForwardInput: Float32Array,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<Float32Array | null> {
    const energy = this.targets.get(layer.index)?.experts?.energy ?? 0;
    if (energy === 0) return null;
    const width = this.student.options.description.hiddenSize;
    const targets = await this.#expertTargets(layer.index, from, from + feedForwardInput.length / width);
    const ones = new Float32Array(targets.weights.length).fill(1);
    const rows = { feedForwardInput, assignment: targets };
    const outputs = await this.student.expertRows(layer, rows, ones);
    const share = 1 / (energy * this.layers.size);
    this.losses.experts += expertTerm(targets, outputs, share);
    for (let i = 0; i < outputs.length; i++) outputs[i]! *= this.match.experts!;
    const dRows = await this.student.expertRowGradients(layer, rows, outputs, gradients);
    const dInput = new Float32Array(feedForwardInput.length);
    targets.tokenOfRow.forEach((token, row) => {
      for (let i = 0; i < width; i++) dInput[token * width + i]! += dRows[row * width + i]!;
    });
    return dInput;
  }

  /** The teacher's experts for some tokens, computed again from what they read. */
  async #expertTargets(index: number, from: number, to: number): Promise<ExpertTargets> {
    const { layer, moe, student, expertOf } = this.layers.get(index)!;
    const { input, ids, weights } = this.targets.get(index)!.experts!;
    const k = moe.numExpertsPerToken;
    const [selectedIds, routingWeights] = [ids.subarray(from * k, to * k), weights.subarray(from * k, to * k)];
    const assignment = assignExperts(selectedIds, to - from, k, moe.numExperts, moe.logicalToPhysical);
    const rowWeights = Float32Array.from(assignment.slotOfRow, (slot) => routingWeights[slot]!);
    const chosen = { feedForwardInput: input.read(from, to), assignment };
    const rows = await this.teacher.expertRows(layer, chosen, rowWeights);
    return expertTargets(
      { selectedIds, routingWeights, rowOfSlot: assignment.rowOfSlot, rows },
      { k, width: input.width, experts: student!.numExperts },
      expertOf!,
      (token) => this.#counts(from + token),
    );
  }

  #counts(token: number): boolean {
    return this.batch.valid?.[token] !== 0;
  }
}
