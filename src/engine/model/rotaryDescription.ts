/** How positions turn queries and keys (RoPE, arXiv 2104.09864). */
export interface RotaryDescription {
  /** Rotated dimensions of a head; the rest passes through. */
  dims: number;
  /** "half": pairs (i, i + dims/2); "interleaved": pairs (2i, 2i + 1). */
  pairing: "half" | "interleaved";
  theta: number;
  scaling: RotaryScaling;
}

export type RotaryScaling =
  | { type: "default" }
  | { type: "linear"; factor: number }
  | { type: "dynamic"; factor: number; originalMaxPositionEmbeddings: number }
  | {
      type: "yarn";
      factor: number;
      originalMaxPositionEmbeddings: number;
      betaFast: number;
      betaSlow: number;
      truncate: boolean;
      /** Multiplies cos and sin. */
      attentionFactor: number;
    }
  | {
      type: "llama3";
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    }
  | {
      type: "longrope";
      shortFactor: number[];
      longFactor: number[];
      originalMaxPositionEmbeddings: number;
      attentionFactorShort: number;
      attentionFactorLong: number;
    }
  /** Frequencies of the whole head, of which only the first pairs turn (Gemma 4). */
  | { type: "proportional"; factor: number; rotatedPairs: number };
