import type { DecodedValue, Decoding } from "./form";
import type { Bits, WeightView } from "./view";

/** Bytes of a row of `count` integers as a dense bit stream that ends with a whole 32-bit word. */
export function packedRowBytes(count: number, bits: Bits): number {
  return 4 * Math.ceil((count * bits) / 32);
}

/**
 * The unsigned integers of rows of bytes: [rows, bytes] to U8 [rows, count]. Element i begins at bit i * bits, lowest bit
 * first (compressed-tensors `pack_to_int32`; words are little-endian, so that the stream runs on from word to word).
 */
export function unpackRows<V extends DecodedValue>(
  { graph }: Decoding<V>,
  bytes: V,
  [rows, count]: readonly [number, number],
  bits: Bits,
): V {
  const width = packedRowBytes(count, bits);
  if (bits === 8) return width === count ? bytes : graph.slice(bytes, 1, 0, count);
  const whole = bits === 3 ? tripleRows(graph, bytes, rows, count) : lookUpRows(graph, bytes, rows, width, bits);
  const unpacked = whole.shape[1] as number;
  return unpacked === count ? whole : graph.slice(whole, 1, 0, count);
}

/** I32 words [rows, columns] as bytes that run along the rows: [columns, 4 * rows]. */
export function wordColumns<V extends DecodedValue>(
  { stored, graph }: Pick<Decoding<V>, "stored" | "graph">,
  view: WeightView,
  words: readonly [number, number],
): V {
  const [rows, columns] = words;
  const bytes = stored(view, { type: "uint8", shape: [rows, columns, 4] });
  return graph.reshape(graph.transpose(bytes, [1, 0, 2]), [columns, 4 * rows]);
}

/** Each byte is looked up as the several integers that it holds. */
function lookUpRows<V extends DecodedValue>(
  graph: Decoding<V>["graph"],
  bytes: V,
  rows: number,
  width: number,
  bits: 2 | 4,
): V {
  const perByte = 8 / bits;
  const table = Array.from(
    { length: 256 * perByte },
    (_, i) => (Math.floor(i / perByte) >>> ((i % perByte) * bits)) & (2 ** bits - 1),
  );
  const looked = graph.gather(graph.uint8Constant(table, [256, perByte]), graph.cast(bytes, "int32"));
  return graph.reshape(looked, [rows, width * perByte]);
}

/** Eight integers of three bits in three bytes. */
function tripleRows<V extends DecodedValue>(graph: Decoding<V>["graph"], bytes: V, rows: number, count: number): V {
  const triples = Math.ceil(count / 8);
  const needed = graph.slice(bytes, 1, 0, Math.min(bytes.shape[1] as number, 3 * triples));
  const missing = 3 * triples - (needed.shape[1] as number);
  const full =
    missing > 0
      ? graph.concat([needed, graph.uint8Constant(new Array<number>(rows * missing).fill(0), [rows, missing])], 1)
      : needed;
  const split = graph.reshape(full, [rows, triples, 3]);
  const byte = (index: number) => graph.slice(split, 2, index, index + 1);
  const number = (value: number) => graph.uint8Constant([value], []);
  /** Bits `from` to `from` + `length` - 1 of a byte, moved up by `up`. */
  const bitsOf = (value: V, from: number, length: number, up = 0) => {
    const low = graph.bitwiseAnd(from === 0 ? value : graph.shiftRight(value, number(from)), number(2 ** length - 1));
    return up === 0 ? low : graph.shiftLeft(low, number(up));
  };
  const [a, b, c] = [byte(0), byte(1), byte(2)] as const;
  const parts = [
    bitsOf(a, 0, 3),
    bitsOf(a, 3, 3),
    graph.bitwiseOr(bitsOf(a, 6, 2), bitsOf(b, 0, 1, 2)),
    bitsOf(b, 1, 3),
    bitsOf(b, 4, 3),
    graph.bitwiseOr(bitsOf(b, 7, 1), bitsOf(c, 0, 2, 1)),
    bitsOf(c, 2, 3),
    bitsOf(c, 5, 3),
  ];
  return graph.reshape(graph.concat(parts, 2), [rows, 8 * triples]);
}
