import { expect, test } from "vitest";
import { layerKinds } from "../../../src/engine/execution/layerKinds";
import { goldenCase } from "../../support/goldens";
import { openModel } from "../../support/tinyModels";

/** Layers that are timed, and of which kind each layer is. */
test.each([
  { what: "windows make no kind", name: "gpt_oss", kinds: [0], kindOf: [0, 0, 0] },
  { what: "linear and full attention", name: "qwen3_next", kinds: [0, 1], kindOf: [0, 1, 0, 1] },
  { what: "a dense layer in front comes second", name: "deepseek_v3", kinds: [1, 0], kindOf: [1, 0, 0] },
  { what: "convolutions, dense and sparse", name: "lfm2_moe", kinds: [1, 0, 2], kindOf: [1, 0, 2, 0] },
  {
    what: "heads of two sizes",
    name: "gemma4_text-head-sizes-keys-as-values-softcap",
    kinds: [0, 1],
    kindOf: [0, 1, 0, 1],
  },
])("$what ($name)", async ({ name, kinds, kindOf }) => {
  const { description } = await openModel(goldenCase(name).checkpoint);
  const found = layerKinds(description);
  expect(found.kinds.map(({ index }) => index)).toEqual(kinds);
  expect(found.kindOf).toEqual(kindOf);
  expect(found.kinds[0]!.feedForward.kind).toBe("moe");
});
