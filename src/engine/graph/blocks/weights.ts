import type { Checkpoint } from "../../checkpoint/checkpoint";
import type { FactoredForm, LinearDescription, NormDescription, WeightView } from "../../model/description";
import { dtypeBits, elementCount, type DType } from "../../tensor/dtype";
import type { GraphBuilder } from "../builder";
import type { ElementType, FileRange, Value } from "../graph";

/**
 * Brings a checkpoint's weights into a graph. Stored bytes are mapped where they lie and cast inside the graph, so they
 * never pass through JavaScript. Tensors named in `replaced` are taken from graph inputs instead: what trains.
 */
export class BlockWeights {
  constructor(
    readonly builder: GraphBuilder,
    readonly checkpoint: Checkpoint,
    readonly replaced: ReadonlyMap<string, Value> = new Map(),
    /** Keeps two checkpoints' tensors apart in one graph. */
    readonly namePrefix = "",
  ) {}

  /** The view's numbers in the graph's float type. */
  float(view: WeightView): Value {
    const replacement = this.replaced.get(weightKey(view));
    if (replacement !== undefined) return replacement;
    switch (view.quantisation?.kind) {
      case undefined:
        return this.builder.cast(this.#stored(view), this.builder.floatType);
      case "f8-block":
        return this.#blockScaled(view, view.quantisation);
      case "mxfp4":
        return this.#mxfp4(view, view.quantisation.scales);
      case "factored":
        return this.#factored(view.quantisation.form);
    }
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

  /** Two thin products where the weight is of low rank, which costs less than putting it together. */
  #product(x: Value, weight: WeightView, layout: LinearDescription["layout"]): Value {
    const { builder } = this;
    const form = weight.quantisation?.kind === "factored" ? weight.quantisation.form : null;
    if (form?.kind !== "low-rank" || this.replaced.has(weightKey(weight))) {
      return builder.gemm(x, this.float(weight), false, layout === "out-in");
    }
    const thin = builder.gemm(x, this.float(form.right), false, true);
    const product = builder.gemm(thin, this.float(form.left), false, true);
    return form.base === null ? product : builder.add(product, builder.gemm(x, this.float(form.base), false, true));
  }

  /** The matrix [out, in] that the factors stand for. */
  #factored(form: FactoredForm): Value {
    const { builder } = this;
    /** sum_k shares_k parts_k for parts [k, rows, columns] and shares [1, k]. */
    const mixed = (shares: Value, parts: WeightView) => {
      const [count, rows, columns] = parts.shape as [number, number, number];
      const flat = builder.matMul(shares, builder.reshape(this.float(parts), [count, rows * columns]));
      return builder.reshape(flat, [rows, columns]);
    };
    const row = (view: WeightView) => builder.reshape(this.float(view), [1, view.shape[0]!]);
    switch (form.kind) {
      case "low-rank": {
        const product = builder.matMul(this.float(form.left), this.float(form.right));
        return form.base === null ? product : builder.add(product, this.float(form.base));
      }
      case "shared-basis": {
        const basis = mixed(builder.softmax(row(form.mixture)), form.bases);
        const active = form.activation === "tanh" ? builder.tanh(basis) : builder.mul(basis, builder.sigmoid(basis));
        return builder.matMul(this.float(form.left), active);
      }
      case "tucker": {
        const core = mixed(row(form.mixture), form.core);
        return builder.matMul(builder.matMul(this.float(form.left), core), this.float(form.right));
      }
    }
  }

  #stored(view: WeightView): Value {
    return storedWeight(this, view);
  }

  /** F8 codes times one scale a block: the scale matrix is spread to the weight's rows and columns by two gathers. */
  #blockScaled(
    view: WeightView,
    { scales, blockRows, blockColumns }: { scales: WeightView; blockRows: number; blockColumns: number },
  ) {
    const { builder } = this;
    const [rows, columns] = view.shape as [number, number];
    const spread = (count: number, block: number) =>
      builder.int64Constant(Array.from({ length: count }, (_, i) => Math.floor(i / block)));
    const byRow = builder.gather(this.float(scales), spread(rows, blockRows), 0);
    const scale = builder.gather(byRow, spread(columns, blockColumns), 1);
    return builder.mul(builder.cast(this.#stored(view), builder.floatType), scale);
  }

  /**
   * FP4 (E2M1) pairs, low nibble first, times a power of two for every 32 values: the OCP MX format. Codes
   * [rows, groups, 16] become a matrix [rows, groups * 32].
   */
  #mxfp4(view: WeightView, scales: WeightView): Value {
    const { builder } = this;
    const [rows, groups] = view.shape as [number, number, number];
    const codes = this.#stored(view);
    const low = builder.bitwiseAnd(codes, builder.uint8Constant([15], []));
    const high = builder.shiftRight(codes, builder.uint8Constant([4], []));
    const pairs = builder.concat([builder.unsqueeze(low, [3]), builder.unsqueeze(high, [3])], 3);
    const values = builder.gather(builder.constant(fp4Values, [16]), builder.cast(pairs, "int32"));
    const exponents = builder.gather(builder.constant(powersOfTwo, [256]), builder.cast(this.#stored(scales), "int32"));
    const scaled = builder.mul(values, builder.unsqueeze(exponents, [2, 3]));
    return builder.reshape(scaled, [rows, groups * 32]);
  }
}

/** The view in its stored type, without cast or scales. */
export function storedWeight({ builder, checkpoint, namePrefix }: BlockWeights, view: WeightView): Value {
  const { range, type } = storedRange(checkpoint, view);
  return builder.fileInitialiser(namePrefix + weightKey(view), type, view.shape, range);
}

/** Name of a view's initialiser, and the key under which a trainable replacement is given. */
export function weightKey({ tensor, offset }: WeightView): string {
  return offset === 0 ? tensor : `${tensor}@${offset}`;
}

/** Where the view's bytes lie. */
function storedRange(checkpoint: Checkpoint, view: WeightView): { range: FileRange; type: ElementType } {
  const entry = checkpoint.tensors.get(view.tensor);
  if (entry === undefined) throw new Error(`no tensor ${view.tensor}`);
  const bytes = dtypeBits[entry.dtype] / 8;
  const type = elementTypes[entry.dtype];
  if (type === undefined) throw new Error(`weights stored as ${entry.dtype} are not read`);
  return {
    type,
    range: {
      file: entry.shard.realPath,
      offset: entry.byteOffset + view.offset * bytes,
      length: elementCount(view.shape) * bytes,
    },
  };
}

const elementTypes: Partial<Record<DType, ElementType>> = {
  F64: "float64",
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  F8_E4M3: "float8e4m3fn",
  U8: "uint8",
};

const fp4Values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
/** Scales by their stored exponent (E8M0); 255 is NaN. */
const powersOfTwo = Array.from({ length: 256 }, (_, exponent) => (exponent === 255 ? NaN : 2 ** (exponent - 127)));
