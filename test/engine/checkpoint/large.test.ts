import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { formatSafetensorsHeader } from "../../../src/engine/checkpoint/headerFormat";
import { temporaryFolder } from "./fixtures";

/** 40 shards of 2,500 tensors; the data are holes of sparse files, since only headers are read. */
function manyTensors(folder: string): void {
  const weightMap: Record<string, string> = {};
  for (let s = 0; s < 40; s++) {
    const shard = `model-${String(s + 1).padStart(5, "0")}-of-00040.safetensors`;
    const tensors = Array.from({ length: 2500 }, (_, i) => ({
      name: `model.layers.${s}.mlp.experts.${i}.gate_proj.weight`,
      dtype: "BF16" as const,
      shape: [768, 2048],
    }));
    for (const { name } of tensors) weightMap[name] = shard;
    const header = formatSafetensorsHeader(tensors, { format: "pt" });
    const file = openSync(path.join(folder, shard), "w");
    writeSync(file, header);
    ftruncateSync(file, header.byteLength + 2500 * 768 * 2048 * 2);
    closeSync(file);
  }
  writeFileSync(
    path.join(folder, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map: weightMap }),
  );
  writeFileSync(path.join(folder, "config.json"), "{}");
}

it("opens 100,000 tensors in 40 shards in about a second and 300 MB", async () => {
  const folder = temporaryFolder();
  const child = path.join(temporaryFolder(), "child.cjs");
  manyTensors(folder);
  await build({
    entryPoints: ["test/engine/checkpoint/child.ts"],
    bundle: true,
    platform: "node",
    outfile: child,
    logLevel: "error",
  });
  const { stdout } = spawnSync(process.execPath, [child, "open", folder], { encoding: "utf8" });
  const result = JSON.parse(stdout) as {
    tensors: number;
    shards: number;
    openMs: number;
    cpuMs: number;
    peakBytes: number;
  };
  console.log(
    `100,000 tensors in 40 shards: ${result.openMs.toFixed(0)} ms (${result.cpuMs.toFixed(0)} ms of processor time), peak ${(result.peakBytes / 1e6).toFixed(0)} MB`,
  );
  expect([result.tensors, result.shards]).toEqual([100_000, 40]);
  // The aim is 1000 ms of real time; on a busy machine only processor time says something.
  expect(result.cpuMs).toBeLessThan(2000);
  expect(result.openMs).toBeLessThan(8000);
  expect(result.peakBytes).toBeLessThan(300e6);
});
