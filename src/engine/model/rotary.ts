import type { RotaryDescription } from "./description";

/**
 * cos and sin of every rotation angle, [positions, dims / 2] row-major, as a forward pass over sequences of `positions`
 * tokens uses them. Rounded to float32 at the same steps as transformers' modeling_rope_utils.py: frequencies, angles,
 * and the product with the attention factor. `dynamic` and `longrope` depend on the sequence length, which is
 * `positions`.
 */
export function rotaryTables(rotary: RotaryDescription, positions: number): { cos: Float32Array; sin: Float32Array } {
  const half = rotary.dims / 2;
  const { frequencies, attentionFactor } = inverseFrequencies(rotary, positions);
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  const factor = Math.fround(attentionFactor);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < half; i++) {
      const angle = Math.fround(frequencies[i]! * position);
      cos[position * half + i] = Math.fround(Math.cos(angle)) * factor;
      sin[position * half + i] = Math.fround(Math.sin(angle)) * factor;
    }
  }
  return { cos, sin };
}

/**
 * Radians a position turns each pair of dimensions, [dims / 2], and the factor that multiplies cos and sin, for
 * sequences of `positions` tokens.
 */
export function inverseFrequencies(
  rotary: RotaryDescription,
  positions: number,
): { frequencies: Float32Array; attentionFactor: number } {
  const { dims, theta, scaling } = rotary;
  switch (scaling.type) {
    case "default":
      return { frequencies: plainFrequencies(theta, dims), attentionFactor: 1 };
    case "linear":
      return { frequencies: plainFrequencies(theta, dims).map((f) => f / scaling.factor), attentionFactor: 1 };
    case "dynamic":
      return {
        frequencies: plainFrequencies(stretchedTheta(theta, dims, scaling, positions), dims),
        attentionFactor: 1,
      };
    case "llama3":
      return { frequencies: llama3Frequencies(plainFrequencies(theta, dims), scaling), attentionFactor: 1 };
    case "yarn":
      return { frequencies: yarnFrequencies(theta, dims, scaling), attentionFactor: scaling.attentionFactor };
    case "proportional":
      return {
        frequencies: plainFrequencies(theta, dims).map((f, i) => (i < scaling.rotatedPairs ? f / scaling.factor : 0)),
        attentionFactor: 1,
      };
    case "longrope": {
      const long = positions > scaling.originalMaxPositionEmbeddings;
      return {
        frequencies: longRopeFrequencies(theta, dims, long ? scaling.longFactor : scaling.shortFactor),
        attentionFactor: long ? scaling.attentionFactorLong : scaling.attentionFactorShort,
      };
    }
  }
}

type Scaling<T extends RotaryDescription["scaling"]["type"]> = Extract<RotaryDescription["scaling"], { type: T }>;

/** theta^(2i / dims) in float32, [dims / 2]. */
function wavelengthPowers(theta: number, dims: number): Float32Array {
  const base = Math.fround(theta);
  return Float32Array.from({ length: dims / 2 }, (_, i) => base ** Math.fround((2 * i) / dims));
}

/** theta^(-2i / dims): RoPE (Su et al., arXiv 2104.09864). */
function plainFrequencies(theta: number, dims: number): Float32Array {
  return wavelengthPowers(theta, dims).map((power) => 1 / power);
}

/** Dynamic NTK: theta * (factor * n / original - (factor - 1))^(dims / (dims - 2)) once n exceeds the original length. */
function stretchedTheta(theta: number, dims: number, scaling: Scaling<"dynamic">, positions: number): number {
  const original = scaling.originalMaxPositionEmbeddings;
  if (positions <= original) return theta;
  // The stretched length is a float32 tensor in transformers, unlike the constants around it.
  const ratio = Math.fround(Math.fround(scaling.factor * positions) / original);
  const stretch = Math.fround(ratio - (scaling.factor - 1));
  return Math.fround(theta * Math.fround(stretch ** (dims / (dims - 2))));
}

/**
 * Llama 3.1: wavelengths beyond original / lowFreqFactor are divided by `factor`, those below original / highFreqFactor
 * stay, and those between are interpolated.
 */
function llama3Frequencies(plain: Float32Array, scaling: Scaling<"llama3">): Float32Array {
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings: original } = scaling;
  return plain.map((frequency) => {
    const wavelength = Math.fround((2 * Math.PI) / frequency);
    if (wavelength > original / lowFreqFactor) return frequency / factor;
    if (wavelength < original / highFreqFactor) return frequency;
    const smooth = Math.fround(
      Math.fround(Math.fround(original / wavelength) - lowFreqFactor) / (highFreqFactor - lowFreqFactor),
    );
    const interpolated = Math.fround(Math.fround(Math.fround(1 - smooth) * frequency) / factor);
    return interpolated + Math.fround(smooth * frequency);
  });
}

/**
 * YaRN: dimensions that turn more than betaFast times within the original length keep their frequency, those that turn
 * less than betaSlow times are divided by `factor`, and a linear ramp joins them.
 */
function yarnFrequencies(theta: number, dims: number, scaling: Scaling<"yarn">): Float32Array {
  const { factor, betaFast, betaSlow, originalMaxPositionEmbeddings: original, truncate } = scaling;
  const dimOfRotations = (rotations: number) =>
    (dims * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimOfRotations(betaFast);
  let high = dimOfRotations(betaSlow);
  if (truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, dims - 1);
  // Prevents a division by zero, with the same number as the reference.
  if (low === high) high += 0.001;
  const span = Math.fround(high - low);
  return wavelengthPowers(theta, dims).map((power, i) => {
    const ramp = Math.min(Math.max(Math.fround(Math.fround(i - Math.fround(low)) / span), 0), 1);
    const keep = Math.fround(1 - ramp);
    const interpolated = Math.fround(1 / Math.fround(factor * power));
    return Math.fround(interpolated * Math.fround(1 - keep)) + Math.fround(Math.fround(1 / power) * keep);
  });
}

function longRopeFrequencies(theta: number, dims: number, factors: readonly number[]): Float32Array {
  return wavelengthPowers(theta, dims).map((power, i) => 1 / Math.fround(Math.fround(factors[i]!) * power));
}
