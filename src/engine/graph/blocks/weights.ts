import type { Checkpoint } from "../../checkpoint/checkpoint";
import type { LinearDescription, NormDescription, WeightView } from "../../model/description";
import { dtypeBits, elementCount, type DType } from "../../tensor/dtype";
import type { Decoding, StoredType } from "../../weights/form";
import { companionsOf, decodeView, productOfView } from "../../weights/forms";
import type { GraphBuilder } from "../builder";
import type { FileRange, Value } from "../graph";

/**
 * Brings a checkpoint's weights into a graph. Stored bytes are mapped where they lie and cast inside the graph, so they
 * never pass through JavaScript. Tensors named in `replaced` are taken from graph inputs instead: what trains.
 */
export class BlockWeights {
  readonly #decoding: Decoding<Value>;

  constructor(
    readonly builder: GraphBuilder,
    readonly checkpoint: Checkpoint,
    readonly replaced: ReadonlyMap<string, Value> = new Map(),
    /** Keeps two checkpoints' tensors apart in one graph. */
    readonly namePrefix = "",
    /** Whether codes and scales of products in integers are graph inputs `codes:<key>` and `scales:<key>`, [in, out] and [out]. */
    readonly codesAreGiven = false,
  ) {
    this.#decoding = { graph: builder, stored: (view, as) => this.stored(view, as), float: (view) => this.float(view) };
  }

  /** The view's numbers in the graph's float type. */
  float(view: WeightView): Value {
    return this.replaced.get(weightKey(view)) ?? decodeView(this.#decoding, view);
  }

  /** x W^T + b, or x W + b for "in-out" weights; x is [rows, in]. */
  linear(x: Value, { weight, bias, layout }: LinearDescription): Value {
    const product = this.#product(x, weight, layout);
    return bias === null ? product : this.builder.add(product, this.float(bias));
  }

  /**
   * RMSNorm: x / sqrt(mean(x^2) + epsilon) * w. LayerNorm: the same on x - mean(x), plus a bias. Over the last axis. Without
   * a norm x itself.
   */
  norm(x: Value, norm: NormDescription | null): Value {
    if (norm === null) return x;
    const { kind, bias, epsilon } = norm;
    const { builder } = this;
    const axis = x.shape.length - 1;
    const weight = this.#normWeight(norm, x.shape[axis] as number);
    if (kind === "rms" && bias === null) return builder.rmsNorm(x, weight, epsilon);
    const centred = kind === "layer" ? builder.sub(x, builder.reduceMean(x, [axis], true)) : x;
    const meanSquare = builder.reduceMean(builder.mul(centred, centred), [axis], true);
    const normalised = builder.div(centred, builder.sqrt(builder.add(meanSquare, builder.constant([epsilon]))));
    const scaled = builder.mul(normalised, weight);
    return bias === null ? scaled : builder.add(scaled, this.float(bias));
  }

  #normWeight({ weight, plusOne }: NormDescription, width: number): Value {
    const { builder } = this;
    if (weight === null) return builder.constant(new Array<number>(width).fill(1), [width]);
    return plusOne ? builder.add(this.float(weight), builder.constant([1])) : this.float(weight);
  }

  /** The matrix as int8 codes [in, out] with a scale an output, whatever its layout. */
  int8Of({ weight, layout }: Pick<LinearDescription, "weight" | "layout">): { codes: Value; scales: Value } {
    const { builder } = this;
    const [out, inner] = layout === "out-in" ? weight.shape : [...weight.shape].reverse();
    if (this.codesAreGiven) {
      const key = weightKey(weight);
      return {
        codes: builder.input(`codes:${key}`, [inner!, out!], "int8"),
        scales: builder.input(`scales:${key}`, [out!]),
      };
    }
    const matrix = this.float(weight);
    return builder.quantiseRows(layout === "out-in" ? matrix : builder.transpose(matrix, [1, 0]));
  }

  #product(x: Value, weight: WeightView, layout: LinearDescription["layout"]): Value {
    if (weight.product === "int8") return this.builder.int8MatMul(x, this.int8Of({ weight, layout }));
    // Scales that train go through their decoding, which has their gradient.
    const isStored = [weight, ...companionsOf(weight)].every((view) => !this.replaced.has(weightKey(view)));
    const direct = layout === "out-in" && isStored ? productOfView(this.#decoding, x, weight) : null;
    return direct ?? this.builder.gemm(x, this.float(weight), false, layout === "out-in");
  }

  /** The view's bytes as they lie, without scales; as another type of as many bytes where one is given. */
  stored(view: WeightView, as?: { type: StoredType; shape: readonly number[] }): Value {
    const { range, type } = storedRange(this.checkpoint, view, as);
    const seenAs = as === undefined || as.type === type ? "" : ` as ${as.type}`;
    const shape = as?.shape ?? view.shape;
    const name = `${this.namePrefix}${weightKey(view)}${seenAs}${shape === view.shape ? "" : ` [${shape.join()}]`}`;
    return this.builder.fileInitialiser(name, as?.type ?? type, shape, range);
  }
}

/** Name of a view's initialiser, and the key under which a trainable replacement is given. */
export function weightKey({ tensor, offset }: WeightView): string {
  return offset === 0 ? tensor : `${tensor}@${offset}`;
}

/** Where the view's bytes lie. */
function storedRange(
  checkpoint: Checkpoint,
  view: WeightView,
  as: { type: StoredType; shape: readonly number[] } | undefined,
): { range: FileRange; type: StoredType } {
  const entry = checkpoint.tensors.get(view.tensor);
  if (entry === undefined) throw new Error(`no tensor ${view.tensor}`);
  const type = elementTypes[entry.dtype] ?? as?.type;
  if (type === undefined) throw new Error(`weights stored as ${entry.dtype} are not read`);
  const bits = as === undefined ? dtypeBits[entry.dtype] : typeBits[as.type];
  return {
    type,
    range: {
      file: entry.shard.realPath,
      offset: entry.byteOffset + (view.offset * dtypeBits[entry.dtype]) / 8,
      length: Math.ceil((elementCount(as?.shape ?? view.shape) * bits) / 8),
    },
  };
}

const elementTypes: Partial<Record<DType, StoredType>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  F8_E4M3: "float8e4m3fn",
  I8: "int8",
  U8: "uint8",
};

const typeBits: Record<StoredType, number> = {
  float64: 64,
  float32: 32,
  float16: 16,
  bfloat16: 16,
  float8e4m3fn: 8,
  int8: 8,
  uint8: 8,
  uint4: 4,
};
