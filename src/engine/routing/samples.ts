/** Tokens kept of each router row, and ids around each of them. */
export const topTokens = 8;
/** Tokens on either side of one that is kept. */
export const contextTokens = 8;
export const windowTokens = 2 * contextTokens + 1;

/**
 * What a profile keeps of single tokens of one layer. Axes: R router rows, N {@link topTokens}, T the text's first tokens, k
 * experts a token. Whatever the order in which chunks come, or how often, it is the same.
 */
export interface TokenSamples {
  /** [R, N] positions of the tokens with the row's largest routing weights, largest first, ties by position; -1: none. */
  topPositions: Int32Array;
  /** [R, N] */
  topWeights: Float32Array;
  /** [R, N] domain of each. */
  topDomains: Int32Array;
  /** [T, k] selected rows; -1: padding. */
  tokenRows: Int32Array;
  /** [T, k] routing weights. */
  tokenWeights: Float32Array;
  /** [T] entropy of softmax(router logits), nats. */
  tokenEntropy: Float32Array;
}

/** The text that the samples are from. */
export interface SampledText {
  sequenceLength: number;
  /** [T] ids of the first tokens. */
  tokenIds: Int32Array;
  /** By layer: [R, N, W] ids around each top token, of its own sequence; -1 outside. */
  windows: Map<number, Int32Array>;
  /** Text of every id above; empty where nothing could decode them. */
  pieces: Record<number, string>;
}

/** Samples of every layer; the text around them is there once the profile is done. */
export interface ProfileSamples {
  layers: Map<number, TokenSamples>;
  text: SampledText | null;
}
