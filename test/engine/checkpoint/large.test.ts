import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { formatSafetensorsHeader } from "../../../src/engine/checkpoint/headerFormat";
import { byteLengthOf } from "../../../src/engine/tensor/dtype";
import { defaultShape } from "../../bench/makeCheckpoint";
import { syntheticFamilies } from "../../bench/syntheticFamilies";
import { temporaryFolder } from "./fixtures";

/** A model of 40 layers of 831 experts, a shard a layer; the data are holes of sparse files, since only headers are read. */
function manyTensors(folder: string): number {
  const numLayers = 40;
  const shape = { ...defaultShape, numLayers, numExperts: 831 };
  const { tensors, config } = syntheticFamilies.qwen3_moe(shape);
  const weightMap: Record<string, string> = {};
  for (let s = 0; s < numLayers; s++) {
    const shard = `model-${String(s + 1).padStart(5, "0")}-of-000${numLayers}.safetensors`;
    // What belongs to no layer goes with the first.
    const inShard = tensors
      .filter(({ name }) => Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? 0) === s)
      .map(({ name, shape: dims }) => ({ name, dtype: "BF16" as const, shape: dims }));
    for (const { name } of inShard) weightMap[name] = shard;
    const header = formatSafetensorsHeader(inShard, { format: "pt" });
    const bytes = inShard.reduce((sum, tensor) => sum + byteLengthOf(tensor.dtype, tensor.shape), 0);
    const file = openSync(path.join(folder, shard), "w");
    writeSync(file, header);
    ftruncateSync(file, header.byteLength + bytes);
    closeSync(file);
  }
  writeFileSync(
    path.join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  writeFileSync(path.join(folder, "config.json"), JSON.stringify(config));
  return tensors.length;
}

it("opens and inspects 100,000 tensors in 40 shards in about a second and 300 MB", async () => {
  const folder = temporaryFolder();
  const child = path.join(temporaryFolder(), "child.cjs");
  const tensors = manyTensors(folder);
  expect(tensors).toBeGreaterThanOrEqual(100_000);
  await build({
    entryPoints: ["test/engine/checkpoint/child.ts"],
    bundle: true,
    platform: "node",
    outfile: child,
    logLevel: "error",
  });
  const { stdout } = spawnSync(process.execPath, [child, "inspect", folder], { encoding: "utf8" });
  const result = JSON.parse(stdout) as Record<"openMs" | "totalMs" | "cpuMs" | "peakBytes", number>;
  const { openMs, totalMs, cpuMs, peakBytes } = result;
  console.log(
    `${tensors} tensors in 40 shards: opened in ${openMs.toFixed(0)} ms, inspected after ${totalMs.toFixed(0)} ms (${cpuMs.toFixed(0)} ms of processor time), peak ${(peakBytes / 1e6).toFixed(0)} MB`,
  );
  expect(result).toMatchObject({ supported: true, tensors, layers: 40, shards: 40 });
  // The aim is 1000 ms of real time; on a busy machine only processor time says something.
  expect(cpuMs).toBeLessThan(2000);
  expect(totalMs).toBeLessThan(8000);
  expect(peakBytes).toBeLessThan(300e6);
});
