/** A node as ONNX has it, with the vectors that it needs as constants. */
export interface OnnxNode {
  op: string;
  /** Where the op is not ONNX's own: onnxruntime's ops. */
  domain?: "com.microsoft";
  inputs: string[];
  outputs: string[];
  attributes: [name: string, value: number | string | readonly number[] | { float: number }][];
  constants: OnnxVector[];
}

export interface OnnxVector {
  name: string;
  type: "int64" | "float32";
  data: readonly number[];
}

/** A node with one result. */
export function step(
  op: string,
  inputs: string[],
  output: string,
  attributes: OnnxNode["attributes"] = [],
  constants: OnnxVector[] = [],
): OnnxNode {
  return { op, inputs, outputs: [output], attributes, constants };
}

/** ReduceSum, ReduceMean or ReduceMax over one axis, which stays with size 1. Counted from the front: onnxruntime keeps the
 * size of a last axis given as -1 where there are no rows. */
export function reduceAxis(op: string, input: string, axis: number, output: string): OnnxNode {
  const axes = int64([axis]);
  return step(op, [input, axes.name], output, [["keepdims", 1]], [axes]);
}

export function int64(data: readonly number[]): OnnxVector {
  return { name: `int64:${data.join(",")}`, type: "int64", data };
}

export function floatVector(value: number): OnnxVector {
  return { name: `float32:${value}`, type: "float32", data: [value] };
}
