import type { GraphBuilder } from "../graph/builder";
import type { Node, OpName, Value } from "../graph/graph";
import { interleaveZeros, restoreAxes, sumTo, zerosLike } from "./gradientShapes";
import { matMulRightGradient, scaleGradient } from "./weightGradients";

/** What a rule sees: its node, the gradient of each output (null: zero), and which inputs need one. */
export interface VjpContext<O extends OpName> {
  builder: GraphBuilder;
  node: Node<O>;
  gradients: readonly (Value | null)[];
  wanted: readonly boolean[];
}

export type VjpRule<O extends OpName> = (context: VjpContext<O>) => readonly (Value | null)[];

/**
 * Vector-Jacobian products. With y = op(x...), dy the gradient of the loss with respect to y, each rule gives dx for
 * every input. `null` marks ops without a useful derivative (comparisons, bit operations): reaching one on the path of a
 * gradient is a defect and fails by name.
 */
export const vjpRules: { [O in OpName]: VjpRule<O> | null } = {
  // y = a + b: da = dy, db = dy
  Add: ({ builder, node: { inputs }, gradients: [dy] }) => inputs.map((input) => sumTo(builder, dy!, input)),

  // y = a - b: da = dy, db = -dy
  Sub: ({ builder, node: { inputs }, gradients: [dy], wanted }) => [
    sumTo(builder, dy!, inputs[0]!),
    wanted[1] ? sumTo(builder, builder.neg(dy!), inputs[1]!) : null,
  ],

  // y = a b: da = dy b, db = dy a
  Mul: ({ builder, node: { inputs }, gradients: [dy], wanted }) => [
    wanted[0] ? sumTo(builder, builder.mul(dy!, inputs[1]!), inputs[0]!) : null,
    wanted[1] ? sumTo(builder, builder.mul(dy!, inputs[0]!), inputs[1]!) : null,
  ],

  // y = a / b: da = dy / b, db = -dy y / b
  Div: ({ builder, node: { inputs, outputs }, gradients: [dy], wanted }) => {
    const scaled = builder.div(dy!, inputs[1]!);
    return [
      wanted[0] ? sumTo(builder, scaled, inputs[0]!) : null,
      wanted[1] ? sumTo(builder, builder.neg(builder.mul(scaled, outputs[0]!)), inputs[1]!) : null,
    ];
  },

  // y = -x: dx = -dy
  Neg: ({ builder, gradients: [dy] }) => [builder.neg(dy!)],

  // y = sqrt(x): dx = dy / (2 y)
  Sqrt: ({ builder, node: { outputs }, gradients: [dy] }) => [builder.div(builder.scale(dy!, 0.5), outputs[0]!)],

  // y = exp(x): dx = dy y
  Exp: ({ builder, node: { outputs }, gradients: [dy] }) => [builder.mul(dy!, outputs[0]!)],

  // y = log(x): dx = dy / x
  Log: ({ builder, node: { inputs }, gradients: [dy] }) => [builder.div(dy!, inputs[0]!)],

  // y = |x|: dx = dy sign(x); 0 at 0
  Abs: ({ builder, node: { inputs }, gradients: [dy] }) => {
    const zero = builder.constant([0]);
    const sign = builder.sub(
      builder.cast(builder.less(zero, inputs[0]!), inputs[0]!.type),
      builder.cast(builder.less(inputs[0]!, zero), inputs[0]!.type),
    );
    return [builder.mul(dy!, sign)];
  },

  // y = sigmoid(x): dx = dy y (1 - y)
  Sigmoid: ({ builder, node: { outputs }, gradients: [dy] }) => {
    const y = outputs[0]!;
    return [builder.mul(dy!, builder.mul(y, builder.sub(builder.constant([1]), y)))];
  },

  // y = x s with s = sigmoid(x): dx = dy (s + y (1 - s)) = dy (y + s (1 - y))
  Silu: ({ builder, node: { inputs, outputs }, gradients: [dy] }) => {
    const y = outputs[0]!;
    const rest = builder.mul(builder.sigmoid(inputs[0]!), builder.sub(builder.constant([1]), y));
    return [builder.mul(dy!, builder.add(y, rest))];
  },

  // y = tanh(x): dx = dy (1 - y^2)
  Tanh: ({ builder, node: { outputs }, gradients: [dy] }) => {
    const y = outputs[0]!;
    return [builder.mul(dy!, builder.sub(builder.constant([1]), builder.mul(y, y)))];
  },

  // y = log(1 + e^x): dx = dy sigmoid(x)
  Softplus: ({ builder, node: { inputs }, gradients: [dy] }) => [builder.mul(dy!, builder.sigmoid(inputs[0]!))],

  // y = erf(x): dx = dy 2/sqrt(pi) exp(-x^2)
  Erf: ({ builder, node: { inputs }, gradients: [dy] }) => {
    const x = inputs[0]!;
    return [builder.mul(dy!, builder.scale(builder.exp(builder.neg(builder.mul(x, x))), 2 / Math.sqrt(Math.PI)))];
  },

  // y = min(max(x, low), high): dx = dy where low <= x <= high, else 0
  Clip: ({ builder, node: { inputs }, gradients: [dy] }) => {
    const [x, low, high] = inputs;
    const inside = builder.and(builder.lessOrEqual(low!, x!), builder.lessOrEqual(x!, high!));
    return [builder.mul(dy!, builder.cast(inside, dy!.type)), null, null];
  },

  // y = c ? a : b: da = c ? dy : 0, db = c ? 0 : dy
  Where: ({ builder, node: { inputs }, gradients: [dy], wanted }) => {
    const [condition, a, b] = inputs;
    const zero = builder.constant([0]);
    return [
      null,
      wanted[1] ? sumTo(builder, builder.where(condition!, dy!, zero), a!) : null,
      wanted[2] ? sumTo(builder, builder.where(condition!, zero, dy!), b!) : null,
    ];
  },

  Less: null,
  LessOrEqual: null,
  And: null,
  BitShift: null,
  BitwiseAnd: null,
  BitwiseOr: null,
  QuantiseRows: null,
  Int8MatMul: null,

  // y = (q - z) s: ds = sum of dy (q - z) over the codes of a scale; codes are constants
  DequantizeLinear: ({ builder, node, gradients: [dy], wanted }) => [
    null,
    wanted[1] ? scaleGradient(builder, node, dy!) : null,
    null,
  ],

  // y = x rounded to what a server computes with: dx = dy, straight through
  RoundTokens: ({ gradients: [dy] }) => [dy!, null, null],

  // Y = X W^T: dX = dY W, with W decoded; codes are constants
  MatMulNBits: ({ builder, node: { attributes }, gradients: [dy], wanted }) => {
    if (wanted[2]) throw new Error("MatMulNBits: scales train through DequantizeLinear");
    return [wanted[0] ? builder.gemm(dy!, attributes.decoded()) : null, null, null];
  },

  // y = x in another type: dx = dy in x's type
  Cast: ({ builder, node: { inputs }, gradients: [dy] }) => [builder.cast(dy!, inputs[0]!.type)],

  // Y = op(A) op(B): as Gemm below, summed over broadcast batch axes
  MatMul: ({ builder, node, gradients: [dy], wanted }) => {
    const [a, b] = node.inputs;
    const { transA, transB } = node.attributes;
    const gradientOfA = () =>
      transA ? builder.matMul(b!, dy!, transB, true) : builder.matMul(dy!, b!, false, !transB);
    return [
      wanted[0] ? sumTo(builder, gradientOfA(), a!) : null,
      wanted[1] ? matMulRightGradient(builder, node, dy!) : null,
    ];
  },

  // Y = op(A) op(B): with A' = op(A), B' = op(B): dA' = dY B'^T, dB' = A'^T dY; transposed back where op transposes
  Gemm: ({ builder, node, gradients: [dy], wanted }) => {
    const [a, b] = node.inputs;
    const { transA, transB } = node.attributes;
    return [
      wanted[0] ? (transA ? builder.gemm(b!, dy!, transB, true) : builder.gemm(dy!, b!, false, !transB)) : null,
      wanted[1] ? (transB ? builder.gemm(dy!, a!, true, transA) : builder.gemm(a!, dy!, !transA, false)) : null,
    ];
  },

  // y = softmax(x): dx = y (dy - sum(dy y))
  Softmax: ({ builder, node: { outputs, attributes }, gradients: [dy] }) => {
    const y = outputs[0]!;
    const inner = builder.reduceSum(builder.mul(dy!, y), [attributes.axis], true);
    return [builder.mul(y, builder.sub(dy!, inner))];
  },

  // y = log softmax(x): dx = dy - exp(y) sum(dy)
  LogSoftmax: ({ builder, node: { outputs, attributes }, gradients: [dy] }) => {
    const total = builder.reduceSum(dy!, [attributes.axis], true);
    return [builder.sub(dy!, builder.mul(builder.exp(outputs[0]!), total))];
  },

  // Y = P V with P = softmax(S): dV = P^T dY, dS = P (dP - rowsum(dP P)) with dP = dY V^T. The row sum equals
  // rowsum(dY Y) (FlashAttention, arXiv 2205.14135, appendix B.4), which has D columns instead of one per key.
  SoftmaxMatMul: ({ builder, node: { inputs, outputs }, gradients: [dy], wanted }) => {
    const value = inputs[1]!;
    const [y, probabilities] = outputs;
    const last = y!.shape.length - 1;
    const rowSum = builder.reduceSum(builder.mul(dy!, y!), [last], true);
    const dProbabilities = builder.matMul(dy!, value, false, true);
    return [
      wanted[0] ? builder.mul(probabilities!, builder.sub(dProbabilities, rowSum)) : null,
      wanted[1] ? builder.matMul(probabilities!, dy!, true, false) : null,
    ];
  },

  // y = x r w with r = (mean(x^2) + epsilon)^(-1/2): with g = dy w, dx = r (g - x r^2 mean(g x)), dw = sum of dy x r
  RmsNorm: ({ builder, node: { inputs, outputs }, gradients: [dy, dr], wanted }) => {
    const [x, weight] = inputs;
    const inverse = outputs[1]!;
    if (dr) throw new Error("RmsNorm: only the first output has a gradient");
    const gradientOfX = () => {
      const g = builder.mul(dy!, weight!);
      const inner = builder.reduceMean(builder.mul(g, x!), [x!.shape.length - 1], true);
      const share = builder.mul(builder.mul(inner, inverse), inverse);
      return builder.mul(builder.sub(g, builder.mul(x!, share)), inverse);
    };
    return [
      wanted[0] ? gradientOfX() : null,
      wanted[1] ? sumTo(builder, builder.mul(builder.mul(dy!, x!), inverse), weight!) : null,
    ];
  },

  // y = x rotated: dx = dy rotated back
  RotaryEmbedding: ({ builder, node: { inputs, attributes }, gradients: [dy] }) => [
    builder.rotaryEmbedding(dy!, inputs[1]!, inputs[2]!, !attributes.backwards),
    null,
    null,
  ],

  // y = KL(p || q) with p = softmax(a), q = softmax(b): db = dy (q - p); targets are constants
  SoftmaxKl: ({ builder, node: { outputs }, gradients: [dy], wanted }) => {
    const [, target, logOwn] = outputs;
    if (wanted[0]) throw new Error("SoftmaxKl: the target has no gradient");
    return [null, builder.mul(builder.sub(builder.exp(logOwn!), target!), dy!)];
  },

  // Y = (I + L)^-1: dL = -Y^T dY Y^T, below the diagonal
  UnitLowerInverse: ({ builder, node: { inputs, outputs }, gradients: [dy] }) => {
    const [, , ...masks] = inputs;
    const y = outputs[0]!;
    const below = masks.reduce((sum, mask) => builder.add(sum, mask));
    const full = builder.matMul(builder.matMul(y, dy!, true, false), y, false, true);
    return [builder.neg(builder.mul(full, below))];
  },

  // y = sum of x over axes: dx = dy broadcast back
  ReduceSum: ({ builder, node, gradients: [dy] }) => [
    builder.expandLike(restoreAxes(builder, dy!, node), node.inputs[0]!),
  ],

  // y = mean of x over axes: dx = dy / count, broadcast back
  ReduceMean: ({ builder, node, gradients: [dy] }) => {
    const x = node.inputs[0]!;
    const sizes = node.attributes.axes.map((axis) => x.shape[axis]!);
    const count = sizes.reduce<number>((product, size) => {
      if (typeof size === "string") throw new Error(`ReduceMean: gradient over an axis of unknown size ${size}`);
      return product * size;
    }, 1);
    return [builder.expandLike(builder.scale(restoreAxes(builder, dy!, node), 1 / count), x)];
  },

  // y = max of x: dx = dy where x is the maximum, shared equally between ties
  ReduceMax: ({ builder, node, gradients: [dy] }) => {
    const x = node.inputs[0]!;
    const maximum = restoreAxes(builder, node.outputs[0]!, node);
    const isMaximum = builder.cast(builder.lessOrEqual(maximum, x), x.type);
    const share = builder.div(isMaximum, builder.reduceSum(isMaximum, node.attributes.axes, true));
    return [builder.mul(share, restoreAxes(builder, dy!, node))];
  },

  // y = x in another shape: dx = dy in x's shape
  Reshape: ({ builder, node: { inputs }, gradients: [dy] }) => [builder.reshape(dy!, inputs[0]!.shape), null],

  // y = x with axes of size 1 added, or taken away: dx = dy with the opposite done
  Unsqueeze: ({ builder, node: { attributes }, gradients: [dy] }) => [builder.squeeze(dy!, attributes.axes)],
  Squeeze: ({ builder, node: { attributes }, gradients: [dy] }) => [builder.unsqueeze(dy!, attributes.axes)],

  // y = x broadcast: dx = dy summed back
  Expand: ({ builder, node: { inputs }, gradients: [dy] }) => [sumTo(builder, dy!, inputs[0]!), null],

  // y = x with axes permuted: dx = dy with axes permuted back
  Transpose: ({ builder, node: { attributes }, gradients: [dy] }) => {
    const { permutation } = attributes;
    return [
      builder.transpose(
        dy!,
        permutation.map((_, i) => permutation.indexOf(i)),
      ),
    ];
  },

  // y = [x1, x2, ...]: dxi = the part of dy
  Concat: ({ builder, node: { inputs, attributes }, gradients: [dy] }) => {
    const sizes = inputs.map(({ shape }) => shape[attributes.axis]!);
    if (!sizes.every((size) => typeof size === "number"))
      throw new Error("Concat: gradient along an axis of unknown size");
    return builder.split(dy!, sizes, attributes.axis);
  },

  // y1, y2, ... = parts of x: dx = [dy1, dy2, ...]
  Split: ({ builder, node, gradients }) => {
    const { axis } = node.attributes;
    const parts = node.outputs.map((output, i) => gradients[i] ?? zerosLike(builder, output));
    return [builder.concat(parts, axis, node.inputs[0]!.shape[axis]), null];
  },

  // y = x[start : end : step]: dx = dy with zeros around it (and between its elements for a step above 1)
  Slice: ({ builder, node, gradients: [dy] }) => {
    const { axis, start, end, step } = node.attributes;
    const size = node.inputs[0]!.shape[axis] as number;
    const spread = step === 1 ? dy! : interleaveZeros(builder, dy!, axis, step);
    const length = step === 1 ? end - start : (spread.shape[axis] as number);
    return [builder.pad(spread, axis, start, size - start - length)];
  },

  // y = x with zeros around it: dx = the middle of dy
  Pad: ({ builder, node, gradients: [dy] }) => {
    const { axis, before } = node.attributes;
    const size = node.inputs[0]!.shape[axis] as number;
    return [builder.slice(dy!, axis, before, before + size)];
  },

  // y = x[i] along the axis: dx = 0 with dy added at i
  Gather: ({ builder, node, gradients: [dy] }) => {
    const [data, indices] = node.inputs;
    const { axis } = node.attributes;
    if (indices!.shape.length !== 1) throw new Error("Gather: gradient for an index of more than one axis");
    const ones = data!.shape.map((_, i) => (i === axis ? indices!.shape[0]! : 1));
    const index = builder.expandLike(builder.reshape(indices!, ones), dy!);
    return [builder.scatterAdd(data!, index, dy!, axis), null];
  },

  // y[i, j] = x[i, index[i, j]]: dx = 0 with dy added at index
  GatherElements: ({ builder, node: { inputs, attributes }, gradients: [dy] }) => [
    builder.scatterAdd(inputs[0]!, inputs[1]!, dy!, attributes.axis),
    null,
  ],

  // y = 0 with u added at index: du = dy picked at index
  ScatterAdd: ({ builder, node: { inputs, attributes }, gradients: [dy] }) => [
    null,
    null,
    builder.gatherElements(dy!, inputs[1]!, attributes.axis),
  ],

  // y = x[order]: dx = dy[inverse order]
  PermuteRows: ({ builder, node: { inputs }, gradients: [dy] }) => [
    builder.permuteRows(dy!, inputs[2]!, inputs[1]!),
    null,
    null,
  ],
};
