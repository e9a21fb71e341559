import { closeSync, copyFileSync, ftruncateSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { syntheticFamilies, type SyntheticFamily } from "../bench/syntheticFamilies";
import { defaultShape } from "../bench/makeCheckpoint";
import type { SyntheticShape } from "../bench/syntheticTensors";

/** A checkpoint of any size that takes no disk: a header, and a hole where the bf16 weights would be. */
export function writeSparseCheckpoint(
  directory: string,
  family: SyntheticFamily,
  shape: Partial<SyntheticShape>,
  tokenizerFrom: string,
): string {
  const { config, tensors } = syntheticFamilies[family]({ ...defaultShape, ...shape });
  mkdirSync(directory, { recursive: true });
  let end = 0;
  const header = Object.fromEntries(
    tensors.map(({ name, shape: dimensions }) => {
      const begin = end;
      end += 2 * dimensions.reduce((product, n) => product * n, 1);
      return [name, { dtype: "BF16", shape: dimensions, data_offsets: [begin, end] }];
    }),
  );
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path.join(directory, "model.safetensors"), "wx");
  writeSync(file, Buffer.concat([length, text]));
  ftruncateSync(file, length.length + text.length + end);
  closeSync(file);
  writeFileSync(path.join(directory, "config.json"), JSON.stringify(config));
  for (const name of ["tokenizer.json", "tokenizer_config.json"])
    copyFileSync(path.join(tokenizerFrom, name), path.join(directory, name));
  return directory;
}
