import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readFloat32 } from "../../../src/engine/checkpoint/read";
import { elementCount } from "../../../src/engine/tensor/dtype";

const goldens = "test/fixtures/goldens";
const families = readdirSync(goldens, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

describe("openCheckpoint on checkpoints that transformers wrote", () => {
  it.each(families)("%s", async (family) => {
    const checkpoint = await openCheckpoint(`${goldens}/${family}/checkpoint`);
    expect(checkpoint.config["model_type"]).toBe(family);
    for (const entry of checkpoint.tensors.values()) {
      expect(await readFloat32(entry)).toHaveLength(elementCount(entry.shape));
    }
  });
});
