import { describe, expect, it } from "vitest";
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from "../../../src/engine/tensor/halfPrecision";
import { createRandom } from "../../../src/engine/tensor/random";

interface Format {
  name: string;
  exponentBits: number;
  fractionBits: number;
  widen: (codes: Uint16Array, out?: Float32Array) => Float32Array;
  narrow: (values: Float32Array, out?: Uint16Array) => Uint16Array;
}

const formats: Format[] = [
  { name: "bfloat16", exponentBits: 8, fractionBits: 7, widen: bfloat16ToFloat32, narrow: float32ToBfloat16 },
  { name: "float16", exponentBits: 5, fractionBits: 10, widen: float16ToFloat32, narrow: float32ToFloat16 },
];

/** IEEE 754, section 3.4, for any widths: the definition, in float64. */
function valueOf(code: number, { exponentBits, fractionBits }: Format): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code & 0x7fff) >> fractionBits;
  const fraction = code & (2 ** fractionBits - 1);
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction * 2 ** -fractionBits) * 2 ** (exponent - bias);
}

/** The nearest code by bisection over the magnitudes, ties to the even one; infinity stands one step above the largest. */
function nearestCode(value: number, format: Format): number {
  const magnitude = Math.abs(value);
  const infinity = (2 ** format.exponentBits - 1) * 2 ** format.fractionBits;
  const step = (code: number) =>
    code === infinity ? 2 * valueOf(infinity - 1, format) - valueOf(infinity - 2, format) : valueOf(code, format);
  let low = 0;
  let high = infinity;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (step(middle) <= magnitude) low = middle;
    else high = middle;
  }
  const below = magnitude - step(low);
  const above = step(high) - magnitude;
  const code = magnitude === Infinity ? infinity : below < above || (below === above && low % 2 === 0) ? low : high;
  return code | (value < 0 || Object.is(value, -0) ? 0x8000 : 0);
}

const allCodes = Uint16Array.from({ length: 65536 }, (_, code) => code);

describe.each(formats)("$name", (format) => {
  it("widens every code to the value that the format defines", () => {
    const values = format.widen(allCodes);
    const wrong = [...allCodes].filter((code) => !Object.is(values[code], valueOf(code, format)));
    expect(wrong).toEqual([]);
  });

  it("narrows every value of its own back to the same code, NaN to a quiet NaN of its sign", () => {
    const back = format.narrow(format.widen(allCodes));
    const quiet = format.name === "bfloat16" ? 0x7fc0 : 0x7e00;
    const wrong = [...allCodes].filter((code) => {
      // A NaN read through a number may lose its sign, so only its kind is certain.
      if (Number.isNaN(valueOf(code, format))) return (back[code]! & 0x7fff) !== quiet;
      return back[code] !== code;
    });
    expect(wrong).toEqual([]);
  });

  it("rounds 40,000 random float32 bit patterns and all ties of a range to the nearest code, ties to even", () => {
    const random = createRandom(7);
    const bits = Uint32Array.from({ length: 40_000 }, () => random.uint32());
    const patterns = [...new Float32Array(bits.buffer)].filter((value) => !Number.isNaN(value));
    const halfway = Array.from({ length: 3000 }, (_, i) => (valueOf(i * 7, format) + valueOf(i * 7 + 1, format)) / 2);
    const limits = [
      65504,
      65519.996,
      65520,
      (2 - 2 ** -7) * 2 ** 127,
      (2 - 2 ** -8) * 2 ** 127,
      2 ** -25,
      2 ** -25 * 1.0000001,
      2 ** -133,
      -0,
    ];
    const values = Float32Array.from([
      ...patterns,
      ...halfway,
      ...halfway.map((v) => -v),
      ...limits,
      Infinity,
      -Infinity,
    ]);
    const codes = format.narrow(values);
    const wrong = [...values].filter((value, i) => codes[i] !== nearestCode(value, format));
    expect(wrong).toEqual([]);
  });

  it("works in place of a caller's array and on views at an offset", () => {
    const codes = Uint16Array.of(0, format.narrow(Float32Array.of(1.5))[0]!, 0).subarray(1, 2);
    const out = new Float32Array(3);
    format.widen(codes, out.subarray(2));
    expect([...out]).toEqual([0, 0, 1.5]);
    const narrowed = new Uint16Array(2);
    format.narrow(out.subarray(2), narrowed.subarray(1));
    expect([...narrowed]).toEqual([0, codes[0]]);
  });
});
