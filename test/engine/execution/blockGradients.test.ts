import { describe, expect, test } from "vitest";
import { assignExperts } from "../../../src/engine/execution/assignment";
import { lossGraph } from "../../../src/engine/execution/headGraphs";
import {
  attentionBackwardGraph,
  attentionGraph,
  feedForwardBackwardGraph,
  feedForwardGraph,
} from "../../../src/engine/execution/layerGraphs";
import { numLogits } from "../../../src/engine/execution/moeLayers";
import { readView } from "../../../src/engine/execution/parameters";
import { positionFeeds } from "../../../src/engine/execution/positions";
import { viewsByKey } from "../../../src/engine/execution/weightViews";
import type { Graph } from "../../../src/engine/graph/graph";
import type { Tensor } from "../../../src/engine/runtime/session";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { goldenCase } from "../../support/goldens";
import { interpret } from "../../support/interpreter";
import { ndArray, sizeOf, type NdArray } from "../../support/ndArray";
import { openModel } from "../../support/tinyModels";

const sequenceLength = 3;
const tokens = 6;

/**
 * Every block's weight gradients in double precision, against central differences: shared experts and attention biases;
 * latent attention and a dense layer; sinks, fused experts with biases; granite's multipliers with tied embeddings; head
 * bias and LayerNorm.
 */
describe.each(["qwen2_moe", "deepseek_v3", "gpt_oss", "granitemoe-tied-bias-top1", "phimoe-biases-window"])(
  "%s",
  (name) => {
    test("gradients of all weights are those of finite differences to 1e-6", async () => {
      const { checkpoint, description } = await openModel(goldenCase(name).checkpoint);
      const random = createRandom(7);
      const weights = new Map<string, NdArray>();
      for (const [key, view] of viewsByKey(description))
        weights.set(`weight:${key}`, ndArray(view.shape, await readView(checkpoint, view)));
      const trainable = new Set(viewsByKey(description).keys());
      const context = { checkpoint, description, sequenceLength, trainable };
      const { hiddenSize } = description;
      const rows = (columns: number) => normal(random, [tokens, columns]);
      const covered = new Set<string>();
      const kinds = new Set<string>();
      for (const layer of [...description.layers].reverse()) {
        const { feedForward, attention } = layer;
        // One layer of each kind: they differ in nothing else.
        if (kinds.has(feedForward.kind)) continue;
        kinds.add(feedForward.kind);
        const moe = feedForward.kind === "moe" ? feedForward : null;
        const feeds = new Map([...weights, ["x", rows(hiddenSize)] as const]);
        const positions = positionFeeds(description.rotary, sequenceLength, attention.slidingWindow);
        for (const [input, tensor] of Object.entries(positions)) feeds.set(input, toNdArray(tensor));
        checkGradients(attentionGraph(context, layer), attentionBackwardGraph(context, layer, false), feeds, covered, {
          ...{ residual: "dResidual", feedForwardInput: "dFeedForwardInput" },
          ...(moe ? { routerLogits: "dRouterLogits" } : {}),
        });
        const inputs = new Map([
          ...weights,
          ["residual", rows(hiddenSize)],
          ["feedForwardInput", rows(hiddenSize)],
        ] as const);
        if (moe) {
          const { numExpertsPerToken: k, numExperts } = moe;
          const ids = Int32Array.from({ length: tokens * k }, (_, i) => (Math.floor(i / k) + (i % k)) % numExperts);
          inputs.set("routerLogits", rows(numLogits(moe)));
          for (const [input, tensor] of Object.entries(assignExperts(ids, tokens, k, numExperts)))
            inputs.set(input, toNdArray(tensor));
        }
        checkGradients(
          feedForwardGraph(context, layer),
          feedForwardBackwardGraph(context, layer, false),
          inputs,
          covered,
          {
            hidden: "dHidden",
          },
        );
      }

      const source = { checkpoint, description, trainable };
      const files = new Map<string, NdArray>();
      for (const view of [description.head.weight, ...(description.head.bias ? [description.head.bias] : [])])
        files.set(`teacher:${view.tensor}`, ndArray(view.shape, await readView(checkpoint, view)));
      const labels = Float64Array.from({ length: tokens }, (_, i) => (i * 5) % description.vocabSize);
      const rowWeights = normal(random, [tokens, 1]);
      const feeds = new Map([...weights, ["x", rows(hiddenSize)], ["teacherHidden", rows(hiddenSize)]] as const);
      feeds.set("labels", ndArray([tokens, 1], labels)).set("rowWeights", rowWeights);
      const loss = lossGraph(source, source, false, { loss: "kd+lm", temperature: 1.5, lmShare: 0.4 });
      checkGradients(loss, loss, feeds, covered, { rowLoss: "rowWeights" }, files);
      expect(covered.size).toBeGreaterThan(15);
    });
  },
);

/**
 * @param cotangents inputs of `backward` by the outputs of `forward` that they are gradients of
 * @param covered keys that were compared are added
 */
function checkGradients(
  forward: Graph,
  backward: Graph,
  feeds: ReadonlyMap<string, NdArray>,
  covered: Set<string>,
  cotangents: Readonly<Record<string, string>>,
  files: ReadonlyMap<string, NdArray> = new Map(),
): void {
  const random = createRandom(11);
  const given = new Map(feeds);
  const first = interpret(forward, feeds, files);
  for (const [output, input] of Object.entries(cotangents))
    if (!given.has(input)) given.set(input, normal(random, first.get(output)!.shape));
  const valueOf = (changed: ReadonlyMap<string, NdArray>) => {
    const outputs = interpret(forward, changed, files);
    return Object.entries(cotangents).reduce(
      (sum, [output, input]) => sum + dot(outputs.get(output)!, given.get(input)!),
      0,
    );
  };
  const gradients = interpret(backward, given, files);
  for (const { name } of backward.outputs) {
    if (!name.startsWith("gradient:")) continue;
    const key = name.slice("gradient:".length);
    const weight = feeds.get(`weight:${key}`)!;
    const direction = normal(random, weight.shape);
    const moved = (by: number) =>
      valueOf(
        new Map(given).set(`weight:${key}`, {
          ...weight,
          data: weight.data.map((w, i) => w + by * direction.data[i]!),
        }),
      );
    const step = 1e-5;
    const difference = (moved(step) - moved(-step)) / (2 * step);
    const expected = dot(gradients.get(name)!, direction);
    expect(Math.abs(difference - expected), key).toBeLessThan(1e-6 * Math.max(1, Math.abs(expected)));
    covered.add(key);
  }
}

function dot(a: NdArray, b: NdArray): number {
  return a.data.reduce((sum, value, i) => sum + value * b.data[i]!, 0);
}

function normal(random: Random, shape: readonly number[]): NdArray {
  return ndArray(
    shape,
    Float64Array.from({ length: sizeOf(shape) }, () => random.normal()),
  );
}

function toNdArray({ shape, data }: Tensor): NdArray {
  return ndArray(shape, Array.from<number | bigint, number>(data as ArrayLike<number>, Number));
}
