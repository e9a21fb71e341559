import { describe, expect, test } from "vitest";
import { packIntegers, packZeros } from "../../../src/engine/weights/packIntegers";
import { nearestFloat4, nearestFloat8, roundToFloat8, roundToMxfp4 } from "../../../src/engine/weights/roundFloats";
import { dequantised, roundToNearest, type IntegerGrid } from "../../../src/engine/weights/roundIntegers";
import type { Bits } from "../../../src/engine/weights/view";
import { float4Values } from "../../../src/engine/tensor/float4";
import { float8E4M3Values } from "../../../src/engine/tensor/float8";
import { decodeFloats, encodeFloats } from "../../../src/engine/tensor/floatCodec";
import { createRandom } from "../../../src/engine/tensor/random";
import { unpackRows } from "../../support/packedLayouts";

const allBits: readonly Bits[] = [2, 3, 4, 8];
const normal = (count: number, seed: number) => {
  const random = createRandom(seed);
  return Float32Array.from({ length: count }, () => random.normal());
};
const grid = (bits: Bits, group: number, scaleType: IntegerGrid["scaleType"] = "F32") => ({ bits, group, scaleType });

describe("rounding to integers", () => {
  test("worked by hand: (0.75, -1.5, 0.3, 0.5) in four bits, ties to even", () => {
    const { codes, scales } = roundToNearest(Float32Array.of(0.75, -1.5, 0.3, 0.5), 1, 4, grid(4, 4));
    expect(scales[0]).toBeCloseTo(0.2, 7);
    // -7.5 goes to -8, 2.5 to 2.
    expect([...codes]).toEqual([4, -8, 2, 2]);
  });

  test.each(allBits)("%i bits: quantising again with its own scales changes nothing", (bits) => {
    for (let seed = 0; seed < 25; seed++) {
      const weights = normal(6 * 32, seed);
      const first = roundToNearest(weights, 6, 32, grid(bits, 16, "BF16"));
      const values = dequantised(first);
      const again = values.map((value, i) => value / first.scales[Math.floor(i / 16)]!);
      expect([...again].map(Math.round)).toEqual([...first.codes]);
      // Half a step, and what a scale rounded down to BF16 (by up to 2^-8) leaves of the largest weight.
      values.forEach((value, i) => {
        expect(Math.abs(value - weights[i]!)).toBeLessThanOrEqual(
          first.scales[Math.floor(i / 16)]! * (0.501 + 2 ** (bits - 9)),
        );
      });
    }
  });

  test("a group of one weight loses next to nothing, zeros nothing at all", () => {
    const weights = normal(64, 3);
    const values = dequantised(roundToNearest(weights, 1, 64, grid(8, 1)));
    values.forEach((value, i) => expect(Math.abs(value / weights[i]! - 1)).toBeLessThan(0.5 / 127));
    const zeros = roundToNearest(new Float32Array(32), 2, 16, grid(4, 16, "BF16"));
    expect(zeros.scales.every((scale) => scale > 0)).toBe(true);
    expect([...dequantised(zeros)].every((value) => value === 0)).toBe(true);
  });

  test("searched scales are the best of twenty by the weighted squared error, for every group by trying all", () => {
    const [rows, columns, group, bits] = [6, 32, 16, 3] as const;
    for (let seed = 0; seed < 20; seed++) {
      const weights = normal(rows * columns, seed);
      const counts = normal(columns, seed + 100).map(Math.abs);
      const { scales } = roundToNearest(weights, rows, columns, { ...grid(bits, group, "BF16"), searched: counts });
      const bf16 = (value: number) => decodeFloats(encodeFloats(Float32Array.of(value), "BF16"), "BF16")[0]!;
      scales.forEach((found, g) => {
        const own = weights.subarray(g * group, (g + 1) * group);
        const most = Math.fround(Math.max(...own.map(Math.abs)) / 3.5);
        const error = (scale: number) =>
          own.reduce((sum, w, i) => {
            const ratio = Math.fround(w / scale);
            const down = Math.floor(ratio);
            const nearest = ratio - down === 0.5 ? (down % 2 === 0 ? down : down + 1) : Math.round(ratio);
            return sum + counts[((g * group) % columns) + i]! * (w - scale * Math.min(3, Math.max(-4, nearest))) ** 2;
          }, 0);
        const tried = Array.from({ length: 20 }, (_, i) => bf16(Math.fround(most * (1 - i / 100))));
        expect(error(found)).toBeLessThanOrEqual(Math.min(...tried.map(error)) * (1 + 1e-12));
        expect(tried).toContain(found);
      });
    }
  });

  test("codes are chosen for scales as they are stored", () => {
    const weights = normal(4096, 9);
    const { scales } = roundToNearest(weights, 64, 64, grid(4, 32, "BF16"));
    expect(decodeFloats(encodeFloats(scales, "BF16"), "BF16")).toEqual(scales);
  });
});

describe("packing", () => {
  test.each(allBits)("%i bits: what is packed is what an independent reader unpacks, odd widths too", (bits) => {
    for (let seed = 0; seed < 25; seed++) {
      const random = createRandom(seed, bits);
      const [rows, columns] = [1 + random.below(5), 1 + random.below(70)];
      const codes = Int8Array.from({ length: rows * columns }, () => random.below(2 ** bits) - 2 ** (bits - 1));
      const packed = packIntegers(codes, rows, columns, bits);
      const words = new Int32Array(packed.buffer);
      expect(words.length).toBe(rows * Math.ceil((columns * bits) / 32));
      const read = unpackRows(words, rows, columns, bits).map((u) => u - 2 ** (bits - 1));
      expect([...read]).toEqual([...codes]);
    }
  });

  test.each<[Bits, number[], number[]]>([
    [4, Array.from({ length: 16 }, (_, i) => i - 8), [1985229328, -19088744]],
    [8, [-128, -1, 0, 127], [-8356096]],
    [2, Array.from({ length: 16 }, (_, i) => (i % 4) - 2), [-454761244]],
    [3, Array.from({ length: 32 }, (_, i) => (i % 8) - 4), [0x88fac688 | 0, 0xc688fac6 | 0, 0xfac688fa | 0]],
  ])("%i bits as compressed-tensors packs them", (bits, codes, words) => {
    const packed = packIntegers(Int8Array.from(codes), 1, codes.length, bits);
    expect([...new Int32Array(packed.buffer)]).toEqual(words);
  });
});

describe("rounding to floats", () => {
  test("F8_E4M3: codes by hand, every number itself, the nearest of all, ties to even, the largest beyond", () => {
    expect([1, 448, -0.5, 2 ** -9, 1000].map(nearestFloat8)).toEqual([0x38, 0x7e, 0xb0, 0x01, 0x7e]);
    for (let code = 0; code < 0x7f; code++) expect(nearestFloat8(float8E4M3Values[code]!)).toBe(code);
    for (const value of normal(200, 1)) {
      const best = Math.min(...[...float8E4M3Values].filter(Number.isFinite).map((one) => Math.abs(one - value)));
      expect(Math.abs(float8E4M3Values[nearestFloat8(value)]! - value)).toBe(best);
    }
    // Between codes 0x38 (1) and 0x39 (1.125), and between 0x39 and 0x3a.
    expect([nearestFloat8(1.0625), nearestFloat8(1.1875)]).toEqual([0x38, 0x3a]);
  });

  test("FP4: every number itself, ties to even", () => {
    for (let code = 0; code < 8; code++) expect(nearestFloat4(float4Values[code]!)).toBe(code);
    expect([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5, 9, -0.75].map(nearestFloat4)).toEqual([0, 2, 2, 4, 4, 6, 6, 7, 10]);
  });

  test("F8 blocks: the largest of a block is 448 of its scale", () => {
    const weights = normal(10 * 12, 2);
    const { codes, scales } = roundToFloat8(weights, [10, 12], [4, 8]);
    expect(scales.length).toBe(3 * 2);
    weights.forEach((weight, i) => {
      const scale = scales[Math.floor(Math.floor(i / 12) / 4) * 2 + Math.floor((i % 12) / 8)]!;
      expect(Math.abs(float8E4M3Values[codes[i]!]! * scale - weight)).toBeLessThanOrEqual(
        Math.abs(weight) / 15 + scale / 512,
      );
    });
  });

  test("MXFP4: exponents by hand, and 1.75 times a power of two counts as the next", () => {
    const group = (most: number) => Float32Array.from({ length: 32 }, (_, i) => (i === 3 ? most : 0));
    const exponent = (most: number) => roundToMxfp4(group(most)).exponents[0]! - 127;
    expect([6, 4, 3.5, 3.49, 1, 0.874, 0.875].map(exponent)).toEqual([0, 0, 0, -1, -2, -3, -2]);
    const { codes } = roundToMxfp4(Float32Array.from({ length: 32 }, (_, i) => [6, -1.5, 0.5][i] ?? 0));
    expect([...codes.subarray(0, 2)]).toEqual([0xb7, 0x01]);
  });
});

describe("zero points", () => {
  test("worked by hand: (0, 1, 2, 3) in two bits, and with a sign", () => {
    const asymmetric = { ...grid(2, 4), asymmetric: true };
    const positive = roundToNearest(Float32Array.of(0, 1, 2, 3), 1, 4, asymmetric);
    expect([...positive.codes, ...positive.scales, ...positive.zeros!]).toEqual([-2, -1, 0, 1, 1, -2]);
    // s = 3 / 3, z = round(-2 + 1) = -1: codes -2, -1, 0, 1.
    const signed = roundToNearest(Float32Array.of(-1, 0, 1, 2), 1, 4, asymmetric);
    expect([...signed.codes, ...signed.scales, ...signed.zeros!]).toEqual([-2, -1, 0, 1, 1, -1]);
    for (const found of [positive, signed]) expect(found.zeros!.length).toBe(1);
    expect([...dequantised(signed)]).toEqual([-1, 0, 1, 2]);
  });

  test("-8 to 7 down a column are the two words of codes -8 to 7 along a row", () => {
    const zeros = Int8Array.from({ length: 16 }, (_, i) => i - 8);
    expect([...new Int32Array(packZeros(zeros, 16, 1, 4).slice().buffer)]).toEqual([1985229328, -19088744]);
    // Two groups beside each other: words lie [rows of words, groups].
    const two = Int8Array.from({ length: 32 }, (_, i) => (i % 2 === 0 ? (i >> 1) - 8 : 0));
    expect([...new Int32Array(packZeros(two, 16, 2, 4).slice().buffer)]).toEqual([
      1985229328,
      0x88888888 | 0,
      -19088744,
      0x88888888 | 0,
    ]);
  });

  test("over seeds: every weight within half a step, and zero stays zero", () => {
    for (const bits of allBits) {
      for (let seed = 0; seed < 25; seed++) {
        const weights = normal(6 * 32, seed).map((value, i) => (i % 7 === 0 ? 0 : value + 1.5));
        const found = roundToNearest(weights, 6, 32, { ...grid(bits, 16), asymmetric: true });
        dequantised(found).forEach((value, i) => {
          expect(Math.abs(value - weights[i]!)).toBeLessThanOrEqual(found.scales[Math.floor(i / 16)]! * 1.0001);
          if (weights[i] === 0) expect(Math.abs(value)).toBe(0);
        });
        const error = (values: Float32Array) => values.reduce((sum, v, i) => sum + (v - weights[i]!) ** 2, 0);
        const symmetric = roundToNearest(weights, 6, 32, grid(bits, 16));
        expect(error(dequantised(found))).toBeLessThan(error(dequantised(symmetric)));
      }
    }
  });
});
