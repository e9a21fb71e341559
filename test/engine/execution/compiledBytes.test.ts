import path from "node:path";
import { expect, it } from "vitest";
import { bytesPerNode, compiledLayerBytes } from "../../../src/engine/execution/compiledBytes";
import {
  combineBackwardGraph,
  combineGraph,
  expertRowsBackwardGraph,
  expertRowsGraph,
  observedExpertRowsGraph,
  routingGraph,
} from "../../../src/engine/execution/expertGraphs";
import { expertGroups } from "../../../src/engine/execution/expertGroups";
import { attentionBackwardGraph, attentionGraph } from "../../../src/engine/execution/layerGraphs";
import type { Graph } from "../../../src/engine/graph/graph";
import type { MoeDescription } from "../../../src/engine/model/description";
import { goldenCheckpoint } from "../../support/goldens";
import { openModel } from "../../support/tinyModels";

/** The formula against the graphs themselves: 8 experts, and 32; chunks of a state; short convolutions. */
it.each([
  ["test/fixtures/coarse", "grouped-query", 256],
  ["media/sample/checkpoint", "grouped-query", 256],
  [goldenCheckpoint("qwen3_next"), "gated-delta", 256],
  [goldenCheckpoint("qwen3_next"), "gated-delta", 1024],
  [goldenCheckpoint("lfm2_moe"), "short-conv", 256],
] as const)("counts the nodes of a layer of %s: %s, %i tokens", async (folder, kind, sequenceLength) => {
  const { checkpoint, description } = await openModel(path.resolve(folder));
  const { hiddenSize } = description;
  const context = { checkpoint, description, hiddenSize, sequenceLength, trainable: new Set<string>() };
  const layer = description.layers.findLast(
    ({ attention, feedForward }) => attention.kind === kind && feedForward.kind === "moe",
  )!;
  const moe = layer.feedForward as MoeDescription;
  const groups = expertGroups(moe.numExperts);
  const nodes = (...graphs: Graph[]) => graphs.reduce((sum, graph) => sum + graph.nodes.length, 0);
  const profile = nodes(
    ...[attentionGraph(context, layer), routingGraph(context, moe), combineGraph(context, layer, moe, true)],
    ...groups.map((group) => observedExpertRowsGraph(context, moe, group, false)),
  );
  const update = nodes(
    ...[attentionGraph(context, layer), routingGraph(context, moe), combineGraph(context, layer, moe, false)],
    ...groups.map((group) => expertRowsGraph(context, moe, group)),
    ...[attentionBackwardGraph(context, layer, true), combineBackwardGraph(context, layer, moe, true)],
    ...groups.map((group) => expertRowsBackwardGraph(context, layer, moe, group, true)),
  );
  for (const [direction, actual] of [
    ["forward", profile],
    ["backward", update],
  ] as const) {
    const counted = compiledLayerBytes(layer, direction, sequenceLength) / bytesPerNode;
    expect(Math.abs(counted / actual - 1), `${direction}: ${counted} for ${actual}`).toBeLessThan(0.15);
  }
});
