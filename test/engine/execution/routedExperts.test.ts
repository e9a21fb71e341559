import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { assignExperts, type Assignment } from "../../../src/engine/execution/assignment";
import type { BlockContext } from "../../../src/engine/execution/block";
import { expertGroups } from "../../../src/engine/execution/expertGroups";
import { readView } from "../../../src/engine/execution/parameters";
import { RoutedExperts } from "../../../src/engine/execution/routedExperts";
import type { RoutedChunk } from "../../../src/engine/execution/routedChunk";
import { SessionCache } from "../../../src/engine/execution/sessionCache";
import { float32 } from "../../../src/engine/execution/tensors";
import { viewsOfExperts, sharedExpertViews } from "../../../src/engine/execution/weightViews";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import type { LayerDescription, MoeDescription } from "../../../src/engine/model/description";
import { describeModel } from "../../../src/engine/model/families";
import { createRandom } from "../../../src/engine/tensor/random";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { InterpretedExperts } from "../../support/interpretedExperts";
import { ndArray, type NdArray } from "../../support/ndArray";

it.each<[number, number[]]>([
  [1, [1]],
  [32, [32]],
  [33, [17, 16]],
  [80, [27, 26, 27]],
  [128, [32, 32, 32, 32]],
  [512, new Array<number>(16).fill(32)],
])("%i experts are groups of %j", (numExperts, sizes) => {
  const groups = expertGroups(numExperts);
  expect(groups.map(({ from, to }) => to - from)).toEqual(sizes);
  expect(groups.flatMap(({ from, to }) => Array.from({ length: to - from }, (_, i) => from + i))).toEqual(
    Array.from({ length: numExperts }, (_, e) => e),
  );
});

const numExperts = 70;
const hiddenSize = 16;
const tokens = 40;
const k = 3;

/** Three graphs' worth of experts, the middle ones without a token, against one group in double precision. */
describe("70 experts in three graphs, and shared ones", () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "reroute-experts-"));
  const sessions = new SessionCache(
    { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 },
    { keepFloat32Weights: false, sessionBytes: 1e9 },
    7,
  );
  let context: BlockContext;
  let layer: LayerDescription;
  let moe: MoeDescription;
  let assignment: Assignment;
  let chunk: RoutedChunk;
  let reference: InterpretedExperts;
  const inputs = new Map<string, NdArray>();
  const random = createRandom(5);
  const states = () => Float32Array.from({ length: tokens * hiddenSize }, () => random.normal());
  const residual = states();
  const dHidden = states();

  beforeAll(async () => {
    await makeCheckpoint({
      directory: folder,
      family: "qwen2_moe",
      deviation: 0.5,
      shape: {
        ...{ hiddenSize, numLayers: 1, numExperts, numExpertsPerToken: k, moeIntermediateSize: 8, vocabSize: 32 },
        ...{ numHeads: 2, numKeyValueHeads: 1, headDim: 8, sharedIntermediateSize: 8 },
      },
    });
    const checkpoint = await openCheckpoint(folder);
    const { description } = describeModel(checkpoint);
    layer = description.layers[0]!;
    moe = layer.feedForward as MoeDescription;
    const views = [...viewsOfExperts(moe.experts), ...sharedExpertViews(moe)];
    context = { checkpoint, hiddenSize, trainable: new Set(views.map(weightKey)) };
    const weights: RoutedChunk["weights"] = Object.fromEntries(
      await Promise.all(
        views.map(async (view) => {
          const values = await readView(checkpoint, view);
          inputs.set(`weight:${weightKey(view)}`, ndArray(view.shape, values));
          return [`weight:${weightKey(view)}`, float32(values, view.shape)] as const;
        }),
      ),
    );
    // Experts 20 to 49 get no token, so that the whole second group has none.
    const used = Array.from({ length: numExperts }, (_, e) => e).filter((e) => e < 20 || e >= 50);
    const selectedIds = Int32Array.from({ length: tokens * k }, (_, i) => used[(i * 7) % used.length]!);
    for (let token = 0; token < tokens; token++) selectedIds.subarray(token * k, (token + 1) * k).sort();
    const routerLogits = Float32Array.from({ length: tokens * numExperts }, () => random.normal());
    const feedForwardInput = states();
    assignment = assignExperts(selectedIds, tokens, k, numExperts);
    chunk = { feedForwardInput, routerLogits, selectedIds, assignment, weights };
    inputs.set("feedForwardInput", ndArray([tokens, hiddenSize], feedForwardInput));
    inputs.set("residual", ndArray([tokens, hiddenSize], residual));
    inputs.set("dHidden", ndArray([tokens, hiddenSize], dHidden));
    inputs.set("routerLogits", ndArray([tokens, numExperts], routerLogits));
    inputs.set("selectedIds", ndArray([tokens, k], selectedIds));
    reference = new InterpretedExperts(context, layer, moe, assignment, numExperts);
  });
  afterAll(async () => {
    await sessions.close();
    rmSync(folder, { recursive: true });
  });

  it("gives the hidden states of one graph", async () => {
    const { hidden } = await new RoutedExperts(context, sessions).forward(layer, moe, chunk, residual, null);
    expectClose(hidden, reference.forward(inputs).get("hidden")!);
  });

  it("observes what the experts put out, row by row", async () => {
    const valid = Float32Array.from(assignment.tokenOfRow, (token) => token % 2);
    const experts = new RoutedExperts({ ...context, trainable: new Set() }, sessions);
    const { hidden, observed } = await experts.forward(layer, moe, chunk, residual, valid);
    expectClose(hidden, reference.forward(inputs).get("hidden")!);
    const { rows, rowWeights } = reference.rows(inputs);
    const outputs = rows.data.map((value, i) => value / rowWeights.data[Math.floor(i / hiddenSize)]!);
    const row = (r: number) => outputs.slice(r * hiddenSize, (r + 1) * hiddenSize);
    const perRow = (of: (values: Float64Array) => number) =>
      ndArray(
        [valid.length],
        Float64Array.from(valid, (_, r) => of(row(r))),
      );
    expectClose(
      observed!.norms,
      perRow((values) => Math.hypot(...values)),
    );
    expectClose(
      observed!.maxima,
      perRow((values) => Math.max(...values)),
    );
    expectClose(
      observed!.absoluteMaxima,
      perRow((values) => Math.max(...values.map(Math.abs))),
    );
    const sums = new Float64Array(numExperts * hiddenSize);
    for (let e = 0; e < numExperts; e++)
      for (let r = assignment.firstRow[e]!; r < assignment.firstRow[e + 1]!; r++)
        row(r).forEach((value, c) => (sums[e * hiddenSize + c]! += valid[r]! * value));
    expectClose(observed!.sums, ndArray([numExperts, hiddenSize], sums));
  });

  it.each([1, 0.22])("observes how the experts turn the hidden state, added with a factor of %f", async (factor) => {
    const scaled = { ...layer, index: factor, feedForwardMultiplier: factor };
    const valid = new Float32Array(tokens * k).fill(1);
    const experts = new RoutedExperts({ ...context, trainable: new Set() }, sessions);
    const { observed } = await experts.forward(scaled, moe, chunk, residual, valid);
    const added = new Float64Array(tokens * hiddenSize);
    reference.rows(inputs).rows.data.forEach((value, i) => {
      added[assignment.tokenOfRow[Math.floor(i / hiddenSize)]! * hiddenSize + (i % hiddenSize)]! += factor * value;
    });
    const cosines = Float64Array.from({ length: tokens }, (_, token) => {
      const x = Array.from(residual.subarray(token * hiddenSize, (token + 1) * hiddenSize));
      const after = x.map((value, h) => value + added[token * hiddenSize + h]!);
      const dot = x.reduce((sum, value, h) => sum + value * after[h]!, 0);
      return dot / Math.hypot(...x) / Math.hypot(...after);
    });
    expectClose(observed!.inputOutputCosine, ndArray([tokens], cosines));
  });

  it.each([true, false])("gives the gradients of one graph (in its inputs: %s)", async (needsInputGradient) => {
    const gradients = new Map([...context.trainable].map((key) => [key, zerosLike(inputs.get(`weight:${key}`)!)]));
    const experts = new RoutedExperts(context, sessions);
    const given = await experts.backward(layer, moe, chunk, dHidden, needsInputGradient, gradients);
    const expected = reference.backward(inputs);
    expectClose(given.dRouterLogits!, expected.get("dRouterLogits")!);
    if (needsInputGradient) expectClose(given.dFeedForwardInput!, expected.get("dFeedForwardInput")!);
    else expect(given.dFeedForwardInput).toBeNull();
    for (const [key, gradient] of gradients) expectClose(gradient, expected.get(`gradient:${key}`)!);
  });
});

function zerosLike({ data }: NdArray): Float32Array {
  return new Float32Array(data.length);
}

/** To single precision, against the largest number of the array. */
function expectClose(actual: Float32Array, expected: NdArray): void {
  expect(actual.length).toBe(expected.data.length);
  const scale = Math.max(1e-6, ...expected.data.map(Math.abs));
  const worst = Math.max(...actual.map((value, i) => Math.abs(value - expected.data[i]!)));
  expect(worst / scale).toBeLessThan(2e-6);
}
