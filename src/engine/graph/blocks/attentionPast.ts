import type { AttentionDescription } from "../../model/description";
import type { GraphBuilder } from "../builder";
import type { Dim, Value } from "../graph";

/** One array that a layer keeps of a sequence between runs. */
export type PastPart =
  /** A vector a token and head, [B, heads, P, width]: keys and values. */
  | { name: string; kind: "by-token"; heads: number; width: number }
  /** The last inputs of a convolution, [B, tokens, width], zeros before the first token. */
  | { name: string; kind: "last-inputs"; tokens: number; width: number }
  /** What the whole past became, [B, ...shape], zeros before the first token. */
  | { name: string; kind: "state"; shape: readonly number[] };

/**
 * What each kind of attention keeps. Latent attention keeps the compressed vector that keys and values come from, and the
 * rotated key, one of each for all heads.
 */
export function pastParts(attention: AttentionDescription): PastPart[] {
  switch (attention.kind) {
    case "grouped-query": {
      const { numKeyValueHeads: heads, headDim, valueHeadDim } = attention;
      return [
        { name: "key", kind: "by-token", heads, width: headDim },
        { name: "value", kind: "by-token", heads, width: valueHeadDim },
      ];
    }
    case "latent":
      return [
        { name: "compressed", kind: "by-token", heads: 1, width: attention.kvLoraRank },
        { name: "rotated", kind: "by-token", heads: 1, width: attention.qkRopeHeadDim },
      ];
    case "gated-delta": {
      const { numKeyHeads, numValueHeads, keyHeadDim, valueHeadDim, conv } = attention;
      const [channels, , kernel] = conv.shape as [number, number, number];
      const state = [numKeyHeads, numValueHeads / numKeyHeads, keyHeadDim, valueHeadDim];
      return [
        { name: "inputs", kind: "last-inputs", tokens: kernel - 1, width: channels },
        { name: "state", kind: "state", shape: state },
      ];
    }
    case "short-conv": {
      const [channels, , kernel] = attention.weight.shape as [number, number, number];
      return [{ name: "inputs", kind: "last-inputs", tokens: kernel - 1, width: channels }];
    }
  }
}

/** Values of the tokens at hand, and of those before them. */
export interface Extended {
  fresh: Value;
  past: Value;
}

/** A layer's past as inputs `past:<name>` of its graph, and what the new tokens add to it as outputs `new:<name>`. */
export class AttentionPast {
  /** int64 [1]: new tokens of each sequence. */
  readonly queryLength: Value;
  /** int64 [2]: new tokens, and tokens that the past has room for. */
  readonly keySizes: Value;
  /** int64 [1]: their sum. */
  readonly keyCount: Value;
  /** [B, 1, S, 1]: what queries are multiplied by where a family stretches those of later positions. */
  readonly stretch: Value;
  readonly kept: Record<string, Value> = {};

  constructor(readonly builder: GraphBuilder) {
    this.queryLength = builder.input("queryLength", [1], "int64");
    this.keySizes = builder.input("keySizes", [2], "int64");
    this.keyCount = builder.input("keyCount", [1], "int64");
    this.stretch = builder.input("stretch", ["B", 1, "S", 1]);
  }

  /** Keys or values [B, heads, S, D] behind those of the past, [B, heads, P, D]. */
  extend(name: string, fresh: Value): Extended {
    const [, heads, , width] = fresh.shape as [string, number, string, number];
    this.keep(name, fresh);
    return { fresh, past: this.state(name, [heads, "P", width]) };
  }

  /** What was kept under a name, [B, ...shape]. */
  state(name: string, shape: readonly Dim[]): Value {
    return this.builder.input(`past:${name}`, ["B", ...shape]);
  }

  keep(name: string, value: Value): void {
    this.kept[`new:${name}`] = value;
  }

  /** [B, S]: 1 for tokens that are there, 0 for those that fill up a shorter sequence. */
  valid(sequenceLength: number): Value {
    return this.builder.input("valid", ["B", sequenceLength]);
  }
}
