import path from "node:path";
import { expect, test } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { describeModel, families } from "../../../src/engine/model/families/index";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { syntheticFamilies, type SyntheticFamily } from "../../bench/syntheticFamilies";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();

test("every supported family can be made synthetically, so that the bench measures it", () => {
  expect(Object.keys(syntheticFamilies).sort()).toEqual([...families.keys()].sort());
});

test.each(Object.keys(syntheticFamilies) as SyntheticFamily[])("%s: each tensor is used", async (family) => {
  const directory = path.join(folder, family);
  const shape = {
    hiddenSize: 32,
    numLayers: 2,
    numExperts: 8,
    numExpertsPerToken: 4,
    moeIntermediateSize: 24,
    sharedIntermediateSize: 24,
    vocabSize: 50,
    numHeads: 4,
    numKeyValueHeads: 2,
    headDim: 8,
  };
  await makeCheckpoint({ directory, family, shape });
  const { description } = describeModel(await openCheckpoint(directory));
  expect(description.family).toBe(family);
  expect(description.unusedTensors.filter((name) => !name.startsWith("model.visual."))).toEqual([]);
  for (const { feedForward } of description.layers) {
    expect(feedForward).toMatchObject({
      kind: "moe",
      numExperts: 8,
      intermediateSize: 24,
      numExpertsPerToken: family === "phimoe" ? 2 : 4,
    });
  }
});
