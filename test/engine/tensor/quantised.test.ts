import { describe, expect, it } from "vitest";
import { decodeFloat4, float4Values } from "../../../src/engine/tensor/float4";
import { decodeFloat8, float8E4M3Values, float8E5M2Values, float8E8M0Values } from "../../../src/engine/tensor/float8";
import { decodeFloat8Blocks, decodeMxfp4 } from "../../support/quantisedBlocks";

/** A small float by its definition: sign, exponent with a bias, fraction; nothing special at the top. */
function plain(code: number, exponentBits: number, fractionBits: number, bias: number): number {
  const sign = code >> (exponentBits + fractionBits) === 1 ? -1 : 1;
  const exponent = (code >> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (code & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  return sign * (exponent === 0 ? fraction * 2 ** (1 - bias) : (1 + fraction) * 2 ** (exponent - bias));
}

const codes = Array.from({ length: 256 }, (_, code) => code);

describe("tables of all codes", () => {
  it("E4M3 follows its definition, with NaN at 0x7f and 0xff and no infinity", () => {
    const expected = codes.map((code) => ((code & 0x7f) === 0x7f ? NaN : plain(code, 4, 3, 7)));
    expect([...float8E4M3Values]).toEqual(expected);
    expect(Math.max(...float8E4M3Values.filter((v) => !Number.isNaN(v)))).toBe(448);
    expect(float8E4M3Values[1]).toBe(2 ** -9);
    expect(Object.is(float8E4M3Values[0x80], -0)).toBe(true);
  });

  it("E5M2 follows its definition, with infinities at 0x7c and 0xfc", () => {
    const expected = codes.map((code) => {
      if ((code & 0x7f) === 0x7c) return code & 0x80 ? -Infinity : Infinity;
      return (code & 0x7f) > 0x7c ? NaN : plain(code, 5, 2, 15);
    });
    expect([...float8E5M2Values]).toEqual(expected);
    expect(float8E5M2Values[0x7b]).toBe(57344);
  });

  it("E8M0 are the powers of two from 2^-127 to 2^127, then NaN", () => {
    expect([...float8E8M0Values]).toEqual([...codes.slice(0, 255).map((code) => 2 ** (code - 127)), NaN]);
  });

  it("FP4 follows its definition", () => {
    expect([...float4Values]).toEqual(codes.slice(0, 16).map((code) => plain(code, 2, 1, 1)));
  });
});

describe("decoding", () => {
  it("looks codes up", () => {
    expect([...decodeFloat8(Uint8Array.of(0x38, 0xb8, 0x7e), float8E4M3Values)]).toEqual([1, -1, 448]);
  });

  it("takes the low nibble of FP4 first", () => {
    expect([...decodeFloat4(Uint8Array.of(0x21, 0xf8))]).toEqual([0.5, 1, -0, -6]);
  });

  it("scales each MXFP4 group of 32 values by its own exponent", () => {
    const groups = new Uint8Array(48).fill(0x21, 0, 16).fill(0x72, 16, 32).fill(0x11, 32);
    const values = decodeMxfp4(groups, Uint8Array.of(127, 130, 255));
    expect([...values.subarray(0, 32)]).toEqual(Array.from({ length: 32 }, (_, i) => (i % 2 ? 1 : 0.5)));
    expect([...values.subarray(32, 64)]).toEqual(Array.from({ length: 32 }, (_, i) => (i % 2 ? 48 : 8)));
    expect([...values.subarray(64)].every(Number.isNaN)).toBe(true);
  });

  it("scales E4M3 by blocks, cut ones at the edges included", () => {
    const rows = 5;
    const columns = 7;
    const matrix = Uint8Array.from({ length: rows * columns }, (_, i) => (i * 37) % 127);
    const scales = Float32Array.from({ length: 3 * 3 }, (_, i) => i + 0.5);
    const values = decodeFloat8Blocks(matrix, { rows, columns }, scales, { rows: 2, columns: 3 });
    const expected = [...matrix].map((code, i) => {
      const block = Math.floor(Math.floor(i / columns) / 2) * 3 + Math.floor((i % columns) / 3);
      return Math.fround(plain(code, 4, 3, 7) * (block + 0.5));
    });
    expect([...values]).toEqual(expected);
  });
});
