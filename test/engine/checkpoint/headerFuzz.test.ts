import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { parseSafetensorsHeader } from "../../../src/engine/checkpoint/header";
import { lengthFieldBytes } from "../../../src/engine/checkpoint/headerFormat";
import { parseIndex } from "../../../src/engine/checkpoint/indexFile";
import { parseConfig } from "../../../src/engine/checkpoint/configFile";
import { byteLengthOf } from "../../../src/engine/tensor/dtype";
import { createRandom, type Random } from "../../../src/engine/tensor/random";
import { RerouteError } from "../../../src/protocol/errors";
import { fuzzCases as cases } from "../../support/nightly";
import { processorMs } from "../../support/processorTime";

const header = readFileSync("test/fixtures/goldens/qwen3_moe/checkpoint/model.safetensors");
const config = readFileSync("test/fixtures/goldens/qwen3_moe/checkpoint/config.json");
const index = Buffer.from(
  JSON.stringify({ metadata: { total_size: 8 }, weight_map: { a: "x.safetensors", b: "y.safetensors" } }),
);

const words = [
  '"__proto__"',
  '"constructor"',
  '"dtype"',
  '"shape"',
  '"data_offsets"',
  '"__metadata__"',
  "[",
  "]",
  "{",
  "}",
  ",",
  ":",
  '"',
  "\\",
  "\\u0000",
  "-1",
  "0",
  "1e999",
  "9007199254740993",
  "18446744073709551616",
  "NaN",
  "null",
  "true",
  "[[[[[[[[",
  "\ufeff",
  "\u0000",
  '"../../etc"',
  "\\ud800",
];

/** One to four changes: flip a bit, set, insert or drop bytes, copy a part, put in a word of the format, cut the end. */
function mutate(original: Buffer, textFrom: number, textTo: number, random: Random): Buffer {
  let bytes: Buffer = Buffer.from(original);
  for (let change = 0; change <= random.below(4); change++) {
    const at = Math.min(
      bytes.length,
      random.below(8) === 0 ? random.below(textFrom + 1) : textFrom + random.below(textTo - textFrom),
    );
    const length = random.below(40);
    const replace = (removed: number, added: Uint8Array) =>
      Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(Math.min(bytes.length, at + removed))]);
    switch (random.below(7)) {
      case 0:
        if (at < bytes.length) bytes[at] = bytes[at]! ^ (1 << random.below(8));
        break;
      case 1:
        if (at < bytes.length) bytes[at] = random.below(256);
        break;
      case 2:
        bytes = replace(0, Buffer.from(words[random.below(words.length)]!));
        break;
      case 3:
        bytes = replace(length, Buffer.from(words[random.below(words.length)]!));
        break;
      case 4:
        bytes = replace(length, Buffer.alloc(0));
        break;
      case 5:
        bytes = replace(0, Buffer.from(bytes.subarray(at, at + length * 4)));
        break;
      case 6:
        if (random.below(4) === 0) bytes = bytes.subarray(0, at);
        break;
    }
  }
  return bytes;
}

function expectTypedEnd(seed: number, work: () => void): boolean {
  const started = processorMs();
  try {
    work();
    return true;
  } catch (error) {
    if (!(error instanceof RerouteError)) throw new Error(`seed ${seed} ended in an untyped error`, { cause: error });
    expect(error.code, `seed ${seed}`).toMatch(/^checkpoint\//);
    return false;
  } finally {
    expect(processorMs() - started, `seed ${seed}`).toBeLessThan(2000);
  }
}

it(`${cases} mutated headers end in a typed error or a consistent result`, () => {
  const headerEnd = lengthFieldBytes + Number(header.readBigUInt64LE());
  let accepted = 0;
  for (let seed = 0; seed < cases; seed++) {
    const file = mutate(header, lengthFieldBytes, headerEnd, createRandom(seed));
    // In half of the cases the length field follows the change, so that it is the JSON that is tested.
    if (seed % 2 === 0 && file.length >= headerEnd) {
      file.writeBigUInt64LE(BigInt(headerEnd - lengthFieldBytes + file.length - header.length));
    }
    const ok = expectTypedEnd(seed, () => {
      const { tensors } = parseSafetensorsHeader(file, file.length, "model.safetensors");
      let end = tensors[0]?.byteOffset ?? 0;
      for (const { dtype, shape, byteOffset, byteLength } of tensors) {
        expect([byteOffset, byteLength], `seed ${seed}`).toEqual([end, byteLengthOf(dtype, shape)]);
        end = byteOffset + byteLength;
      }
      expect(end).toBeLessThanOrEqual(file.length);
    });
    if (ok) accepted++;
  }
  // Some changes, such as one letter of a name, leave a valid file: both ends must be reached.
  expect(accepted).toBeGreaterThan(cases / 50);
  expect(accepted).toBeLessThan(cases / 2);
  expect(Object.keys(Object.prototype)).toEqual([]);
});

it(`${cases} mutated indexes name only files of the same folder or end in a typed error`, () => {
  for (let seed = 0; seed < cases; seed++) {
    const bytes = mutate(index, 0, index.length, createRandom(seed, 1));
    expectTypedEnd(seed, () => {
      // Any plain name will do, also one without a stem: the file is in this folder, or is missing.
      for (const name of parseIndex(bytes, "index.json").shardNames) expect(name).toMatch(/^[^/\\:]*\.safetensors$/);
    });
  }
});

it(`${cases} mutated configs end in a typed error or an object without a prototype`, () => {
  for (let seed = 0; seed < cases; seed++) {
    const bytes = mutate(config, 0, config.length, createRandom(seed, 2));
    expectTypedEnd(seed, () => expect(Object.getPrototypeOf(parseConfig(bytes, "config.json"))).toBeNull());
  }
  expect(({} as { hidden_size?: number }).hidden_size).toBeUndefined();
});
