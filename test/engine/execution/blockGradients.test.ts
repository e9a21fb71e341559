import { describe, expect, test } from "vitest";
import { assignExperts } from "../../../src/engine/execution/assignment";
import { readsResidual } from "../../../src/engine/execution/expertGraphs";
import { lossGraph } from "../../../src/engine/execution/headGraphs";
import {
  attentionBackwardGraph,
  attentionGraph,
  denseBackwardGraph,
  denseGraph,
} from "../../../src/engine/execution/layerGraphs";
import { numLogits } from "../../../src/engine/model/moeLayers";
import { readView } from "../../../src/engine/execution/parameters";
import { positionFeeds } from "../../../src/engine/execution/positions";
import { viewsByKey } from "../../../src/engine/execution/weightViews";
import { weightKey } from "../../../src/engine/graph/blocks/weights";
import type { Graph } from "../../../src/engine/graph/graph";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { InterpretedExperts, toNdArray } from "../../support/interpretedExperts";
import { goldenCase } from "../../support/goldens";
import { interpret } from "../../support/interpreter";
import { ndArray, sizeOf, type NdArray } from "../../support/ndArray";
import { openModel } from "../../support/tinyModels";

const sequenceLength = 3;
const tokens = 6;

/**
 * Every block's weight gradients in double precision, against central differences: shared experts and attention biases;
 * latent attention and a dense layer; sinks, fused experts with biases; granite's multipliers with tied embeddings; head
 * bias and LayerNorm; gated delta rule, gated attention and norms of 1 + w; short convolutions; weights on the
 * experts' input, norms without weights, chunks; Gemma 4's routed sum with norms on
 * its way, and a shared expert that reads the hidden states; MiniMax-M3's clamped activation in all parts.
 */
describe.each([
  ...["qwen2_moe", "deepseek_v3", "gpt_oss", "granitemoe-tied-bias-top1", "phimoe-biases-window"],
  ...["qwen3_next", "lfm2_moe", "llama4_text", "gemma4_text", "minimax_m3_vl_text"],
  ...["afmoe-mup-bias-tied", "mimo_v2_flash-bias-groups-no-scale", "cohere2_moe-sigmoid-shared-dense-front"],
  "mistral4-groups-stretched-dense-front",
])("%s", (name) => {
  test("gradients of all weights are those of finite differences to 1e-6", async () => {
    const { checkpoint, description } = await openModel(goldenCase(name).checkpoint);
    const random = createRandom(7);
    const weights = new Map<string, NdArray>();
    for (const [key, view] of viewsByKey(description))
      weights.set(`weight:${key}`, ndArray(view.shape, await readView(checkpoint, view)));
    const trainable = new Set(viewsByKey(description).keys());
    const { hiddenSize } = description;
    const context = { checkpoint, description, hiddenSize, sequenceLength, trainable };
    const rows = (columns: number) => normal(random, [tokens, columns]);
    const covered = new Set<string>();
    const kinds = new Set<string>();
    for (const layer of [...description.layers].reverse()) {
      const { feedForward, attention } = layer;
      // One layer of each kind: they differ in nothing else.
      const kind = `${attention.kind} ${feedForward.kind}`;
      if (kinds.has(kind)) continue;
      kinds.add(kind);
      const feeds = new Map([...weights, ["x", rows(hiddenSize)] as const]);
      const positions =
        "rotary" in attention
          ? positionFeeds(attention.rotary, sequenceLength, attention.slidingWindow, attention.chunk)
          : {};
      for (const [input, tensor] of Object.entries(positions)) feeds.set(input, toNdArray(tensor));
      checkGradients(
        runGraph(attentionGraph(context, layer)),
        runGraph(attentionBackwardGraph(context, layer, true)),
        feeds,
        covered,
        {
          ...{ residual: "dResidual", feedForwardInput: "dFeedForwardInput" },
          ...(feedForward.kind === "moe" ? { routerLogits: "dRouterLogits" } : {}),
        },
        { x: "dx" },
        feedForward.kind === "moe" ? weightKey(feedForward.router.weight) : undefined,
      );
      const inputs = new Map([
        ...weights,
        ["residual", rows(hiddenSize)],
        ["feedForwardInput", rows(hiddenSize)],
      ] as const);
      if (feedForward.kind === "mlp") {
        checkGradients(
          runGraph(denseGraph(context, layer, feedForward)),
          runGraph(denseBackwardGraph(context, layer, feedForward, true)),
          ...([inputs, covered, { hidden: "dHidden" }, { feedForwardInput: "dFeedForwardInput" }] as const),
        );
        continue;
      }
      const { numExpertsPerToken: k, numExperts } = feedForward;
      // The first expert gets no token of its own group in one family: experts without rows have gradients too.
      const ids = Int32Array.from({ length: tokens * k }, (_, i) => (Math.floor(i / k) + (i % k)) % numExperts);
      inputs.set("routerLogits", rows(numLogits(feedForward)));
      inputs.set("selectedIds", ndArray([tokens, k], ids));
      const experts = new InterpretedExperts(context, layer, feedForward, assignExperts(ids, tokens, k, numExperts), 3);
      checkGradients(
        (given) => experts.forward(given),
        (given) => experts.backward(given),
        ...([inputs, covered, { hidden: "dHidden" }] as const),
        {
          ...{ feedForwardInput: "dFeedForwardInput", routerLogits: "dRouterLogits" },
          ...(readsResidual(layer, feedForward) ? { residual: "dResidual" } : {}),
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
    const loss = lossGraph(source, { checkpoint, description }, false, {
      loss: "kd+lm",
      temperature: 1.5,
      lmShare: 0.4,
    });
    checkGradients(runGraph(loss, files), runGraph(loss, files), feeds, covered, { rowLoss: "rowWeights" });
    expect(covered.size).toBeGreaterThan(15);
  });
});

type Run = (feeds: ReadonlyMap<string, NdArray>) => Map<string, NdArray>;

function runGraph(graph: Graph, files: ReadonlyMap<string, NdArray> = new Map()): Run {
  return (feeds) => interpret(graph, feeds, files);
}

/**
 * @param covered keys of weights that were compared are added
 * @param cotangents inputs of `backward` by the outputs of `forward` that they are gradients of
 * @param inputGradients outputs of `backward` by the inputs that they are gradients in; those of weights are by their key
 */
function checkGradients(
  forward: Run,
  backward: Run,
  feeds: ReadonlyMap<string, NdArray>,
  covered: Set<string>,
  cotangents: Readonly<Record<string, string>>,
  inputGradients: Readonly<Record<string, string>> = {},
  routerKey?: string,
): void {
  const random = createRandom(11);
  const given = new Map(feeds);
  const first = forward(feeds);
  for (const [output, input] of Object.entries(cotangents))
    if (!given.has(input)) given.set(input, normal(random, first.get(output)!.shape));
  const valueOf = (changed: ReadonlyMap<string, NdArray>) => {
    const outputs = forward(changed);
    return Object.entries(cotangents).reduce(
      (sum, [output, input]) => sum + dot(outputs.get(output)!, given.get(input)!),
      0,
    );
  };
  const gradients = backward(given);
  if (routerKey !== undefined) gradients.set(`gradient:${routerKey}`, overSequences(gradients.get("routerGradient")!));
  const weights = [...gradients.keys()].filter((name) => name.startsWith("gradient:"));
  const compared = [
    ...Object.entries(inputGradients),
    ...weights.map((name) => [name.replace("gradient:", "weight:"), name] as const),
  ];
  for (const [input, name] of compared) {
    const value = feeds.get(input)!;
    const direction = normal(random, value.shape);
    const moved = (by: number) =>
      valueOf(new Map(given).set(input, { ...value, data: value.data.map((w, i) => w + by * direction.data[i]!) }));
    // The error of a central difference falls with the square of its step, rounding rises with its inverse; at 1e-6 both
    // are below 3e-7 on gradients of hundreds, while 1e-5 leaves 2e-5 where keys are normalised.
    const step = 1e-6;
    const difference = (moved(step) - moved(-step)) / (2 * step);
    const expected = dot(gradients.get(name)!, direction);
    expect(Math.abs(difference - expected), input).toBeLessThan(1e-6 * Math.max(1, Math.abs(expected)));
    if (input.startsWith("weight:")) covered.add(input);
  }
}

/** The sum of a stack's matrices, [n, rows, columns]. */
function overSequences({ shape: [, rows, columns], data }: NdArray): NdArray {
  const size = rows! * columns!;
  return ndArray(
    [rows!, columns!],
    Float64Array.from({ length: size }, (_, i) => data.reduce((sum, v, at) => (at % size === i ? sum + v : sum), 0)),
  );
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
