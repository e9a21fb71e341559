import path from "node:path";
import { describe, expect, it } from "vitest";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { routingWeights } from "../../../src/engine/model/routingWeights";
import { selectExperts } from "../../../src/engine/model/selection";
import { checkpointTensor, goldenFolder, goldenTensor, loadCheckpoint, readSafetensors } from "./goldens";

describe.each([...families.keys()])("routing of %s agrees with transformers", (family) => {
  const checkpoint = loadCheckpoint(path.join(goldenFolder(family), "checkpoint"));
  const golden = readSafetensors(path.join(goldenFolder(family), "golden.safetensors"));
  const file = readSafetensors(path.join(goldenFolder(family), "checkpoint", "model.safetensors"));
  const { description } = describeModel(checkpoint);
  const layers = description.layers.filter((layer) => layer.feedForward.kind === "moe");

  it.each(layers.map((layer) => [layer.index, layer] as const))("layer %i", (index, layer) => {
    const moe = layer.feedForward;
    if (moe.kind !== "moe") throw new Error("not MoE");
    const logits = goldenTensor(golden, `router_logits.${index}`);
    const ids = goldenTensor(golden, `topk_ids.${index}`);
    const [numTokens, numExperts] = logits.shape as [number, number];
    const k = ids.shape[1]!;
    const routerLogits = Float32Array.from(logits.values);
    const out = new Int32Array(numTokens * k);
    const bias = moe.router.correctionBias && checkpointTensor(file, moe.router.correctionBias.tensor);
    selectExperts(moe.routing, routerLogits, numTokens, numExperts, k, bias, out);
    expect([...out]).toEqual([...ids.values]);
    const weights = routingWeights(moe.routing, routerLogits, out, numTokens, numExperts, k);
    const expected = goldenTensor(golden, `topk_weights.${index}`).values;
    expected.forEach((value, i) => expect(Math.abs(weights[i]! - value)).toBeLessThan(1e-6));
  });
});
