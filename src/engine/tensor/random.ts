/**
 * Seeded random numbers. Every random choice of a run (sampling order, random plans, bootstrap resamples, test data) comes from
 * here, so that the same seed gives the same bytes on every machine and Node version.
 */
export interface Random {
  /** Uniform integer in [0, 2^32). */
  uint32(): number;
  /** Uniform in [0, 1), all 53 bits of the mantissa random. */
  uniform(): number;
  /** Uniform integer in [0, bound), without modulo bias. `bound` is at most 2^32. */
  below(bound: number): number;
  /** Standard normal, by the polar method (Marsaglia and Bray 1964). */
  normal(): number;
}

/**
 * xoshiro128** 1.1 (Blackman and Vigna 2018, https://prng.di.unimi.it/xoshiro128starstar.c), its 128-bit state filled by
 * splitmix64. Its arithmetic is 32-bit, which JavaScript does exactly and fast.
 *
 * @param seed any safe integer
 * @param stream an independent sequence of the same seed, for example an epoch or a layer
 */
export function createRandom(seed: number, stream = 0): Random {
  return xoshiro128(seedState(seed, stream));
}

/**
 * The order in which `count` items are visited in `epoch`: a Fisher-Yates shuffle (Knuth, algorithm P) of 0..count-1.
 * Depends on nothing but its arguments, so a resumed run finds its place again from the position alone.
 */
export function shuffledOrder(count: number, seed: number, epoch: number): Int32Array {
  const random = createRandom(seed, epoch);
  const order = Int32Array.from({ length: count }, (_, i) => i);
  for (let last = count - 1; last > 0; last--) {
    const chosen = random.below(last + 1);
    const item = order[chosen]!;
    order[chosen] = order[last]!;
    order[last] = item;
  }
  return order;
}

/**
 * A generator of its own for each list of whole numbers: what is drawn for an item does not depend on what was drawn for
 * others, or in which order. Each word of the state is the list hashed with murmur3's 32-bit mixing (Appleby 2011).
 */
export function keyedRandom(...keys: readonly number[]): Random {
  const word = (start: number) => {
    let hash = start;
    for (const key of keys) {
      hash = mixed(hash ^ (key | 0));
      // What 32 bits cut off of a large seed.
      hash = mixed(hash + Math.floor(key / 2 ** 32) + 0x9e3779b9);
    }
    return hash;
  };
  return xoshiro128([word(0x243f6a88), word(0x85a308d3), word(0x13198a2e), word(0x03707344) | 1]);
}

/** murmur3's finaliser: each bit of the result depends on each bit given. */
function mixed(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** The generator itself, from its four 32-bit state words. Exported for the test against the published algorithm. */
export function xoshiro128(state: readonly [number, number, number, number]): Random {
  let [s0, s1, s2, s3] = state;
  let spareNormal: number | undefined;

  const uint32 = () => {
    const product = Math.imul(s1, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = s1 << 9;
    s2 ^= s0;
    s3 ^= s1;
    s1 ^= s2;
    s0 ^= s3;
    s2 ^= shifted;
    s3 = (s3 << 11) | (s3 >>> 21);
    return result;
  };
  const uniform = () => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) / 2 ** 53;
  const below = (bound: number) => {
    // Values in the last, incomplete block of `bound` numbers would favour small results: draw again.
    const limit = 2 ** 32 - (2 ** 32 % bound);
    for (;;) {
      const value = uint32();
      if (value < limit) return value % bound;
    }
  };
  const normal = () => {
    if (spareNormal !== undefined) {
      const value = spareNormal;
      spareNormal = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * uniform() - 1;
      const y = 2 * uniform() - 1;
      const squared = x * x + y * y;
      if (squared >= 1 || squared === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(squared)) / squared);
      spareNormal = y * factor;
      return x * factor;
    }
  };
  return { uint32, uniform, below, normal };
}

/**
 * splitmix64 (Steele, Lea and Flood 2014) as a generator of 64-bit words. Exported for the test against published values.
 */
export function splitmix64(seed: bigint): () => bigint {
  let state = BigInt.asUintN(64, seed);
  return () => {
    state = BigInt.asUintN(64, state + 0x9e3779b97f4a7c15n);
    let z = state;
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return z ^ (z >> 31n);
  };
}

/** The seed is hashed before the stream is mixed in, so that neighbouring seeds and streams share nothing. */
function seedState(seed: number, stream: number): [number, number, number, number] {
  const next = splitmix64(splitmix64(BigInt(Math.trunc(seed)))() ^ BigInt(Math.trunc(stream)));
  const [a, b] = [next(), next()];
  const low = (word: bigint) => Number(word & 0xffffffffn);
  return [low(a), low(a >> 32n), low(b), low(b >> 32n)];
}
