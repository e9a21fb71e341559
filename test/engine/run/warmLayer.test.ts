import path from "node:path";
import { expect, it } from "vitest";
import { warmLayer } from "../../../src/engine/run/warmLayer";
import { openModel } from "../../support/tinyModels";

const fixture = path.join(__dirname, "../../fixtures/coarse");

it("reads the tensors of one layer, each once, and nothing else", async () => {
  const { checkpoint, description } = await openModel(fixture);
  const layer = description.layers[1]!;
  const own = [...checkpoint.tensors.values()].filter(({ name }) => name.startsWith("model.layers.1."));
  expect(own.length).toBeGreaterThan(10);
  expect(warmLayer(checkpoint, layer)).toBe(own.reduce((sum, { byteLength }) => sum + byteLength, 0));
});

it("leaves files that are gone to those who need them, and stops when asked to", async () => {
  const { checkpoint, description } = await openModel(fixture);
  const tensors = new Map(
    [...checkpoint.tensors].map(([name, entry]) => [
      name,
      { ...entry, shard: { ...entry.shard, realPath: "/nowhere" } },
    ]),
  );
  expect(warmLayer({ ...checkpoint, tensors }, description.layers[0]!)).toBe(0);
  expect(() => warmLayer(checkpoint, description.layers[0]!, AbortSignal.abort())).toThrow(
    expect.objectContaining({ code: "cancelled" }),
  );
});
