/**
 * Makes a synthetic checkpoint from the command line. Bundle it with esbuild, then for example
 *
 *   node makeCheckpointCli.cjs out --family qwen3_moe --numLayers 8 --numExperts 128 --weights low-rank --seed 1
 */
import { parseArgs } from "node:util";
import { defaultShape, makeCheckpoint } from "./makeCheckpoint";
import { syntheticFamilies, type SyntheticFamily } from "./syntheticFamilies";
import type { SyntheticShape } from "./syntheticTensors";

async function main(): Promise<void> {
  const shapeNames = Object.keys(defaultShape) as (keyof SyntheticShape)[];
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: Object.fromEntries(
      ["family", "seed", "weights", "rank", "maxShardBytes", "tokenizerFrom", ...shapeNames].map((name) => [
        name,
        { type: "string" as const },
      ]),
    ),
  });
  const [directory] = positionals;
  const text = (name: string) => values[name];
  const family = text("family") ?? "qwen3_moe";
  if (directory === undefined || !Object.hasOwn(syntheticFamilies, family)) {
    throw new Error(`usage: makeCheckpoint <folder> --family ${Object.keys(syntheticFamilies).join("|")} [options]`);
  }
  const number = (name: string) => (text(name) === undefined ? {} : { [name]: Number(text(name)) });
  const shape = Object.assign({}, ...shapeNames.map(number)) as Partial<SyntheticShape>;
  if (text("tieWordEmbeddings") !== undefined) shape.tieWordEmbeddings = text("tieWordEmbeddings") === "true";
  const started = performance.now();
  const written = await makeCheckpoint({
    directory,
    family: family as SyntheticFamily,
    shape,
    weights: text("weights") === "low-rank" ? "low-rank" : "random",
    ...number("seed"),
    ...number("rank"),
    ...number("maxShardBytes"),
    ...(text("tokenizerFrom") === undefined ? {} : { tokenizerFrom: text("tokenizerFrom")! }),
  });
  const seconds = (performance.now() - started) / 1000;
  console.log(
    `${written.tensors} tensors, ${(written.bytes / 1e9).toFixed(2)} GB in ${written.shards.length} files, ${seconds.toFixed(1)} s`,
  );
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
