import path from "node:path";
import { beforeAll, expect, it } from "vitest";
import { costOfCheckpoint } from "../../../src/engine/evaluation/checkpointCost";
import type { OpenModel } from "../../../src/engine/run/work";
import { elementCount } from "../../../src/engine/tensor/dtype";
import { goldenCheckpoint } from "../../support/goldens";
import { writeFloat8, writePacked } from "../../support/otherLayouts";
import { eightBits, packQuantized } from "../../support/packedLayouts";
import { withPredictionLayer } from "../../support/predictionLayer";
import { temporaryFolder } from "../../support/temporaryFolder";
import { openModel } from "../../support/tinyModels";

/** Bits, bytes and parameters against sums over a file's header by tensor names, which the engine does not go by. */
const folder = temporaryFolder();
const models = new Map<string, { stored: OpenModel; plain: OpenModel }>();
const isRouted = (name: string) => /\.mlp\.experts\.\d+\./.test(name);

beforeAll(async () => {
  const plain = await openModel(goldenCheckpoint("deepseek_v3"));
  models.set("as released", { stored: plain, plain });
  models.set("with a prediction layer that nothing reads", {
    stored: await withPredictionLayer("deepseek_v3", folder),
    plain,
  });
  const of = ({ quantised }: { quantised: OpenModel }) => ({ stored: quantised, plain });
  const to = (name: string) => path.join(folder, name);
  // Attention is quantised, too: its scales are no expert's.
  models.set("in FP8", of(await writeFloat8("deepseek_v3", to("fp8"), { rows: 16, columns: 10 })));
  models.set("of 4 bits", of(await writePacked("deepseek_v3", to("int4"), packQuantized(4, 8))));
  models.set("of 8 bits", of(await writePacked("deepseek_v3", to("int8"), eightBits("float", "channel"))));
});

const names = ["as released", "with a prediction layer that nothing reads", "in FP8", "of 4 bits", "of 8 bits"];
it.each(names)("a model %s", (name) => {
  const { stored, plain } = models.get(name)!;
  const numLayers = plain.description.layers.length;
  const read = [...stored.checkpoint.tensors.values()].filter(
    // The shape that goes along with packed integers is for loaders; the engine has it from config.json.
    (entry) => !entry.name.includes(`layers.${numLayers}.`) && !entry.name.endsWith("weight_shape"),
  );
  const bytes = (entries: typeof read) => entries.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const numbers = [...plain.checkpoint.tensors.values()].map(
    (entry) => [entry.name, elementCount(entry.shape)] as const,
  );
  const sum = (of: (name: string) => boolean) => numbers.reduce((all, [at, count]) => all + (of(at) ? count : 0), 0);
  const [total, routed] = [sum(() => true), sum(isRouted)];

  const cost = costOfCheckpoint(stored, 16);
  expect(cost.parametersTotal).toBe(total);
  const moe = plain.description.layers.map(({ feedForward }) => feedForward).find(({ kind }) => kind === "moe");
  if (moe?.kind !== "moe") throw new Error("a sparse layer");
  expect(cost.parametersActive).toBe(total - routed + (routed * moe.numExpertsPerToken) / moe.numExperts);
  expect(cost.bytes).toBe(bytes([...stored.checkpoint.tensors.values()]));
  expect(cost.bitsPerWeight).toBe((8 * bytes(read)) / total);
  expect(cost.expertBitsPerWeight).toBe((8 * bytes(read.filter((entry) => isRouted(entry.name)))) / routed);
});
