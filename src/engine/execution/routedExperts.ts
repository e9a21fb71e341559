import type { MoeDescription } from "../model/description";
import type { Tensor } from "../runtime/session";
import { groupColumn, groupRows, groupTarget, slotFeeds, type Assignment } from "./assignment";
import type { BlockContext } from "./block";
import {
  combineBackwardGraph,
  combineGraph,
  expertRowsBackwardGraph,
  expertRowsGraph,
  hasTail,
  observedExpertRowsGraph,
  routingGraph,
  tailBackwardGraph,
  type ExpertLayer,
} from "./expertGraphs";
import { expertGroups, type ExpertGroup } from "./expertGroups";
import { numLogits } from "../model/moeLayers";
import { addGradients } from "./parameters";
import { PreviewCodes } from "./previewCodes";
import type { ChosenRows, InputGradients, ObservedRows, RoutedChunk, RoutedOutput } from "./routedChunk";
import type { SessionCache } from "./sessionCache";
import { float32, floats } from "./tensors";

/** Runs the three steps of expertGraphs.ts, group of experts by group. */
export class RoutedExperts {
  /** Rows [R, H] of the chunk at hand, or their gradients: as large as the largest chunk so far, and kept. */
  #rows = new Float32Array(0);

  readonly #codes: PreviewCodes;

  constructor(
    readonly context: BlockContext,
    readonly sessions: Pick<SessionCache, "get">,
  ) {
    this.#codes = new PreviewCodes(context, sessions);
  }

  /**
   * Hidden states behind the layer, residual + multiplier * (routed + shared experts).
   *
   * @param residual [T, H]
   * @param validRows [R], 1 for the rows that count: with it, the experts' outputs are looked at
   * @param sumsBefore [E, H] sums of the chunks before this one in its leaf; null: it is the first
   */
  async forward(
    layer: ExpertLayer,
    moe: MoeDescription,
    chunk: RoutedChunk,
    residual: Float32Array,
    validRows: Float32Array | null,
    sumsBefore: Float32Array | null = null,
  ): Promise<RoutedOutput> {
    const { routingWeights, rowWeights } = await this.#route(moe, chunk);
    const rows = this.#rowsOf(chunk.assignment);
    const observed = validRows === null ? null : emptyObservation(chunk, moe, this.context.hiddenSize);
    // Experts whose group does not run keep what they have.
    if (sumsBefore !== null) observed?.sums.set(sumsBefore);
    for (const group of expertGroups(moe.numExperts, this.context.expertsPerGraph)) {
      const looksAt = observed === null ? null : { ...observed, validRows: validRows!, sumsBefore };
      await this.#forwardGroup(layer, moe, chunk, group, rowWeights, rows, looksAt);
    }
    const session = await this.sessions.get(`combine ${layer.index} ${observed !== null}`, () =>
      combineGraph(this.context, layer, moe, observed !== null),
    );
    const { hidden, inputOutputCosine } = await session.run({
      ...slotFeeds(chunk.assignment),
      ...chunk.weights,
      ...{ feedForwardInput: this.#states(chunk.feedForwardInput), residual: this.#states(residual) },
      rows: this.#states(rows),
    });
    return {
      hidden: floats(hidden!),
      routingWeights,
      rows,
      observed: observed === null ? null : { ...observed, inputOutputCosine: floats(inputOutputCosine!) },
    };
  }

  /** Writes the rows of a group's experts, and what is observed of them. Without a token, the group does not run. */
  async #forwardGroup(
    layer: ExpertLayer,
    moe: MoeDescription,
    { assignment, weights, feedForwardInput }: ChosenRows & Pick<RoutedChunk, "weights">,
    group: ExpertGroup,
    rowWeights: Float32Array,
    rows: Float32Array,
    observed: (ObservedRows & { validRows: Float32Array; sumsBefore: Float32Array | null }) | null,
  ): Promise<void> {
    const of = groupRows(assignment, group);
    if (of.count === 0) return;
    const width = this.context.hiddenSize;
    const feeds = {
      ...of.feeds,
      ...weights,
      ...(await this.#codes.feeds(layer.index, moe, group)),
      ...this.#unitMask(layer, moe, group),
      feedForwardInput: this.#states(feedForwardInput),
      rowWeights: groupColumn(of, rowWeights),
    };
    const ofRows = groupTarget(of, rows, width);
    const key = `${layer.index} ${group.from}`;
    if (observed === null) {
      const session = await this.sessions.get(`rows ${key}`, () => expertRowsGraph(this.context, moe, group));
      await session.run(feeds, { rows: ofRows.tensor });
      ofRows.keep();
      return;
    }
    const { validRows, sumsBefore, norms, maxima, absoluteMaxima, sums } = observed;
    const ofGroup = (all: Float32Array) => this.#states(all.subarray(group.from * width, group.to * width));
    const session = await this.sessions.get(`observed rows ${key} ${sumsBefore !== null}`, () =>
      observedExpertRowsGraph(this.context, moe, group, sumsBefore !== null),
    );
    const columns = { norms, maxima, absoluteMaxima };
    const targets = [
      ["rows", ofRows] as const,
      ...Object.entries(columns).map(([name, column]) => [name, groupTarget(of, column, 1)] as const),
    ];
    await session.run(
      {
        ...{ ...feeds, validRows: groupColumn(of, validRows) },
        ...(sumsBefore === null ? {} : { sumsBefore: ofGroup(sumsBefore) }),
      },
      { ...Object.fromEntries(targets.map(([name, { tensor }]) => [name, tensor])), sums: ofGroup(sums) },
    );
    for (const [, { keep }] of targets) keep();
  }

  #unitMask({ index }: ExpertLayer, { intermediateSize: I }: MoeDescription, { from, to }: ExpertGroup) {
    const { unitMasks } = this.context;
    if (unitMasks === undefined) return {};
    return { unitMask: float32(unitMasks.get(Number(index))!.subarray(from * I, to * I), [to - from, I]) };
  }

  /** Outputs of the experts for some rows, each times its weight [R], [R, H]. */
  async rowsOf(
    layer: ExpertLayer,
    moe: MoeDescription,
    chosen: ChosenRows,
    weights: Readonly<Record<string, Tensor>>,
    rowWeights: Float32Array,
  ): Promise<Float32Array> {
    const rows = new Float32Array(chosen.assignment.tokenOfRow.length * this.context.hiddenSize);
    for (const group of expertGroups(moe.numExperts, this.context.expertsPerGraph))
      await this.#forwardGroup(layer, moe, { ...chosen, weights }, group, rowWeights, rows, null);
    return rows;
  }

  /**
   * Gradient in what each of some rows reads, [R, H], of outputs without weights.
   * @param dOutputs [R, H]
   * @param gradients of the trained weights, which this adds to
   */
  async rowGradients(
    layer: ExpertLayer,
    moe: MoeDescription,
    { feedForwardInput, assignment }: ChosenRows,
    weights: Readonly<Record<string, Tensor>>,
    dOutputs: Float32Array,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<Float32Array> {
    const width = this.context.hiddenSize;
    const { firstRow, tokenOfRow } = assignment;
    const dRows = new Float32Array(dOutputs.length);
    // Every row is a token of its own, so that each has its own gradient.
    const own = { firstRow, tokenOfRow: Int32Array.from(tokenOfRow.keys()) };
    const ones = new Float32Array(tokenOfRow.length).fill(1);
    const input = new Float32Array(dOutputs.length);
    tokenOfRow.forEach((token, row) =>
      input.set(feedForwardInput.subarray(token * width, (token + 1) * width), row * width),
    );
    const plain = { index: layer.index, feedForwardMultiplier: 1, feedForwardOutputNorm: null };
    for (const group of expertGroups(moe.numExperts, this.context.expertsPerGraph)) {
      const of = groupRows(own, group);
      if (of.count === 0) continue;
      const session = await this.sessions.get(`chosen rows backward ${layer.index} ${group.from}`, () =>
        expertRowsBackwardGraph(this.context, plain, { ...moe, routedMultiplier: 1 }, group, true),
      );
      const ofRows = groupTarget(of, dRows, width);
      const states = { feedForwardInput: this.#states(input), dHidden: this.#states(dOutputs) };
      const outputs = await session.run(
        { ...of.feeds, ...weights, ...states, rowWeights: groupColumn(of, ones) },
        { dRows: ofRows.tensor },
      );
      ofRows.keep();
      addGradients(outputs, gradients);
    }
    return dRows;
  }

  /**
   * @param dHidden [T, H]
   * @param gradients of the trained weights, which this adds to
   */
  async backward(
    layer: ExpertLayer,
    moe: MoeDescription,
    chunk: RoutedChunk,
    dHidden: Float32Array,
    needsInputGradient: boolean,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<InputGradients> {
    const { assignment, weights } = chunk;
    const width = this.context.hiddenSize;
    const { rowWeights } = await this.#route(moe, chunk);
    if (hasTail(layer, moe))
      return this.#throughTail(layer, moe, chunk, rowWeights, dHidden, needsInputGradient, gradients);
    const dRowWeights = new Float32Array(assignment.tokenOfRow.length);
    const dRows = needsInputGradient ? this.#rowsOf(assignment) : null;
    const states = { feedForwardInput: this.#states(chunk.feedForwardInput), dHidden: this.#states(dHidden) };
    for (const group of expertGroups(moe.numExperts, this.context.expertsPerGraph)) {
      const of = groupRows(assignment, group);
      if (of.count === 0) continue;
      const session = await this.sessions.get(`rows backward ${layer.index} ${group.from} ${needsInputGradient}`, () =>
        expertRowsBackwardGraph(this.context, layer, moe, group, needsInputGradient),
      );
      const ofWeights = groupTarget(of, dRowWeights, 1);
      const ofRows = dRows === null ? null : groupTarget(of, dRows, width);
      const outputs = await session.run(
        { ...of.feeds, ...weights, ...states, rowWeights: groupColumn(of, rowWeights) },
        { dRowWeights: ofWeights.tensor, ...(ofRows === null ? {} : { dRows: ofRows.tensor }) },
      );
      ofWeights.keep();
      ofRows?.keep();
      addGradients(outputs, gradients);
    }
    const session = await this.sessions.get(`combine backward ${layer.index} ${needsInputGradient}`, () =>
      combineBackwardGraph(this.context, layer, moe, needsInputGradient),
    );
    const outputs = await session.run({
      ...this.#routingFeeds(moe, chunk),
      ...weights,
      ...states,
      dRowWeights: float32(dRowWeights, [dRowWeights.length, 1]),
      ...(dRows === null ? {} : { dRows: this.#states(dRows) }),
    });
    addGradients(outputs, gradients);
    const { dFeedForwardInput, dRouterLogits } = outputs;
    return {
      dFeedForwardInput: dFeedForwardInput === undefined ? null : floats(dFeedForwardInput),
      dRouterLogits: floats(dRouterLogits!),
      dResidual: null,
    };
  }

  /** Gradients through what follows the experts' rows, which are computed again, and from there as in other layers. */
  async #throughTail(
    layer: ExpertLayer,
    moe: MoeDescription,
    chunk: RoutedChunk,
    rowWeights: Float32Array,
    dHidden: Float32Array,
    needsInputGradient: boolean,
    gradients: ReadonlyMap<string, Float32Array>,
  ): Promise<InputGradients> {
    const rows = this.#rowsOf(chunk.assignment);
    for (const group of expertGroups(moe.numExperts, this.context.expertsPerGraph)) {
      await this.#forwardGroup(layer, moe, chunk, group, rowWeights, rows, null);
    }
    const session = await this.sessions.get(`tail backward ${layer.index}`, () =>
      tailBackwardGraph(this.context, layer, moe),
    );
    const outputs = await session.run({
      ...slotFeeds(chunk.assignment),
      ...chunk.weights,
      ...{ feedForwardInput: this.#states(chunk.feedForwardInput), dHidden: this.#states(dHidden) },
      // Where it is not kept, it is only added, and its numbers do not matter.
      residual: this.#states(chunk.residual ?? dHidden),
      rows: this.#states(rows),
    });
    addGradients(outputs, gradients);
    const behind = { index: layer.index, feedForwardMultiplier: 1, feedForwardOutputNorm: null };
    const { routedNorm: _, ...summed } = moe;
    const experts = { ...summed, shared: null };
    const dRouted = floats(outputs["dRouted"]!);
    const found = await this.backward(behind, experts, chunk, dRouted, needsInputGradient, gradients);
    const ofShared = outputs["dFeedForwardInput"];
    if (found.dFeedForwardInput !== null && ofShared !== undefined) addTo(found.dFeedForwardInput, floats(ofShared));
    const { dResidual } = outputs;
    return { ...found, dResidual: dResidual === undefined ? null : floats(dResidual) };
  }

  /** The graph mostly has no weights of its own, so that all layers with the same rule share it. */
  async #route(moe: MoeDescription, chunk: RoutedChunk) {
    const { routing, numExpertsPerToken } = moe;
    const key = `routing ${JSON.stringify([routing, numExpertsPerToken, numLogits(moe), moe.router.expertScale?.tensor])}`;
    const session = await this.sessions.get(key, () => routingGraph(this.context, moe));
    const { routingWeights, rowWeights } = await session.run({ ...chunk.weights, ...this.#routingFeeds(moe, chunk) });
    return { routingWeights: floats(routingWeights!), rowWeights: floats(rowWeights!) };
  }

  #routingFeeds(
    moe: MoeDescription,
    { routerLogits, selectedIds, ownIds, assignment }: RoutedChunk,
  ): Record<string, Tensor> {
    const k = moe.numExpertsPerToken;
    const numTokens = selectedIds.length / k;
    return {
      routerLogits: float32(routerLogits, [numTokens, numLogits(moe)]),
      selectedIds: { type: "int32", shape: [numTokens, k], data: selectedIds },
      ...(ownIds === undefined
        ? {}
        : { ownIds: { type: "int32" as const, shape: [numTokens, ownIds.length / numTokens], data: ownIds } }),
      ...slotFeeds(assignment),
    };
  }

  #rowsOf({ tokenOfRow }: Assignment): Float32Array {
    const length = tokenOfRow.length * this.context.hiddenSize;
    if (this.#rows.length < length) this.#rows = new Float32Array(length);
    return this.#rows.subarray(0, length);
  }

  #states(data: Float32Array): Tensor {
    const width = this.context.hiddenSize;
    return float32(data, [data.length / width, width]);
  }
}

function addTo(sum: Float32Array, added: Float32Array): void {
  for (let i = 0; i < sum.length; i++) sum[i]! += added[i]!;
}

function emptyObservation(
  { assignment: { tokenOfRow } }: RoutedChunk,
  { numExperts }: MoeDescription,
  width: number,
): ObservedRows {
  const column = () => new Float32Array(tokenOfRow.length);
  return { norms: column(), maxima: column(), absoluteMaxima: column(), sums: new Float32Array(numExperts * width) };
}
