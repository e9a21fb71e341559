import type { ElementType, Node, OpAttributes, OpName } from "./graph";
import { floatVector, int64, reduceAxis, step, type OnnxNode } from "./onnxNode";
import { replacementOf, withinBuffers } from "./lowerForProvider";
import type { ProviderProfile } from "./providerProfiles";

/**
 * Turns one of our nodes into ONNX nodes. Most are one to one; of the rest, ScatterAdd is ScatterElements with reduction
 * "add" on zeros, PermuteRows a Gather, Expand one to the Shape of a value. What a provider needs otherwise is in its profile.
 */
export function lowerNode(node: Node, profile: ProviderProfile): OnnxNode[] {
  const lower = lowerings[node.op] as ((node: Node) => OnnxNode[]) | undefined;
  const nodes = replacementOf(node, profile) ?? (lower === undefined ? [plain(node)] : lower(node));
  return nodes.flatMap((one) => withinBuffers(one, profile));
}

type Attributes = OnnxNode["attributes"];
type Lowering<O extends OpName> = (node: Node<O>) => OnnxNode[];

const lowerings: { [O in OpName]?: Lowering<O> } = {
  Cast: (node) => [plain(node, [["to", onnxDataTypes[node.attributes.to]]])],
  MatMul: (node) => {
    const { transA, transB } = node.attributes;
    if (!transA && !transB) return [plain(node)];
    const attributes: Attributes = [
      ["transA", transA ? 1 : 0],
      ["transB", transB ? 1 : 0],
    ];
    return [{ ...plain(node, attributes), op: "FusedMatMul", domain: "com.microsoft" }];
  },
  Gemm: (node) => [
    plain(node, [
      ["transA", node.attributes.transA ? 1 : 0],
      ["transB", node.attributes.transB ? 1 : 0],
    ]),
  ],
  Softmax: (node) => [plain(node, [["axis", node.attributes.axis]])],
  LogSoftmax: (node) => [plain(node, [["axis", node.attributes.axis]])],
  SoftmaxMatMul: (node): OnnxNode[] => {
    const [scores, value] = node.inputs;
    const [mixed, probabilities] = node.outputs;
    return [
      step("Softmax", [scores!.name], probabilities!.name, [["axis", -1]]),
      step("MatMul", [probabilities!.name, value!.name], mixed!.name),
    ];
  },
  RmsNorm: (node) => [
    {
      ...plain(node, [
        ["axis", -1],
        ["epsilon", { float: node.attributes.epsilon }],
      ]),
      op: "SimplifiedLayerNormalization",
    },
  ],
  Silu: (node) => [{ ...plain(node, [["alpha", { float: 1 }]]), op: "QuickGelu", domain: "com.microsoft" }],
  RotaryEmbedding: (node): OnnxNode[] => {
    const [x, cos, sin] = node.inputs;
    const { backwards } = node.attributes;
    const [, heads, , width] = x!.shape as [string, number, number, number];
    const rotated = 2 * (cos!.shape[1] as number);
    const first = int64([0]);
    const negative = `${node.outputs[0]!.name}/sin`;
    const partly: Attributes = [
      ["rotary_embedding_dim", rotated],
      ["num_heads", heads],
    ];
    return [
      ...(backwards ? [{ op: "Neg", inputs: [sin!.name], outputs: [negative], attributes: [], constants: [] }] : []),
      {
        ...plain(node, rotated === width ? [] : partly),
        domain: "com.microsoft",
        // The position of every sequence's first token comes before the tables.
        inputs: [x!.name, first.name, cos!.name, backwards ? negative : sin!.name],
        constants: [first],
      },
    ];
  },
  SoftmaxKl: (node): OnnxNode[] => {
    const [target, own] = node.inputs.map(({ name }) => name);
    const [kl, targetShares, logOwn] = node.outputs.map(({ name }) => name);
    const [logTarget, difference, terms] = ["target", "difference", "terms"].map((n) => `${kl!}/${n}`);
    const last: Attributes = [["axis", -1]];
    return [
      step("LogSoftmax", [target!], logTarget!, last),
      step("LogSoftmax", [own!], logOwn!, last),
      step("Exp", [logTarget!], targetShares!),
      step("Sub", [logTarget!, logOwn!], difference!),
      step("Mul", [targetShares!, difference!], terms!),
      reduceAxis("ReduceSum", terms!, node.inputs[1]!.shape.length - 1, kl!),
    ];
  },
  // Block by block: the inverse of [[A, 0], [B, D]] has -D^-1 B A^-1 below its diagonal blocks. With X the inverse of the
  // diagonal blocks of one size, that is X - X (L * mask) X for those of twice the size. Powers of L would need fewer
  // products, and lose every digit where keys repeat.
  UnitLowerInverse: (node): OnnxNode[] => {
    const [lower, identity, ...masks] = node.inputs.map(({ name }) => name);
    const result = node.outputs[0]!.name;
    let inverse = identity!;
    return masks.flatMap((mask, level) => {
      const name = (part: string) => `${result}/${part}${level}`;
      const last = level === masks.length - 1;
      const next = last ? result : name("inverse");
      const below = step("Mul", [lower!, mask], name("below"));
      const nodes =
        level === 0
          ? [below, step("Sub", [inverse, name("below")], next)]
          : [
              below,
              step("MatMul", [inverse, name("below")], name("left")),
              step("MatMul", [name("left"), inverse], name("product")),
              step("Sub", [inverse, name("product")], next),
            ];
      inverse = next;
      return nodes;
    });
  },
  RoundTokens: (node): OnnxNode[] => {
    const [x, largest, least] = node.inputs.map(({ name }) => name);
    const result = node.outputs[0]!.name;
    const [sizes, most, step1, scale, scaled, codes, whole] = [
      ...["sizes", "most", "step", "scale", "scaled", "codes", "whole"],
    ].map((part) => `${result}/${part}`);
    const [low, high] = [floatVector(-128), floatVector(127)];
    const { type, shape } = node.inputs[0]!;
    return [
      step("Abs", [x!], sizes!),
      reduceAxis("ReduceMax", sizes!, shape.length - 1, most!),
      step("Div", [most!, largest!], step1!),
      step("Max", [step1!, least!], scale!),
      step("Div", [x!, scale!], scaled!),
      ...(node.attributes.to === "int8"
        ? [
            step("Round", [scaled!], whole!),
            step("Max", [whole!, low.name], `${whole!}/low`, [], [low]),
            step("Min", [`${whole!}/low`, high.name], codes!, [], [high]),
          ]
        : [
            step("Cast", [scaled!], whole!, [["to", onnxDataTypes.float8e4m3fn]]),
            step("Cast", [whole!], codes!, [["to", onnxDataTypes[type]]]),
          ]),
      step("Mul", [codes!, scale!], result),
    ];
  },
  QuantiseRows: (node): OnnxNode[] => {
    const [w, largest, least] = node.inputs.map(({ name }) => name);
    const [codes, scales] = node.outputs.map(({ name }) => name);
    const part = (name: string) => `${codes!}/${name}`;
    return [
      step("Abs", [w!], part("sizes")),
      reduceAxis("ReduceMax", part("sizes"), 1, part("most")),
      step("Div", [part("most"), largest!], part("step")),
      step("Max", [part("step"), least!], part("scale")),
      step("Div", [w!, part("scale")], part("scaled")),
      step("Round", [part("scaled")], part("whole")),
      step("Cast", [part("whole")], part("rows"), [["to", onnxDataTypes.int8]]),
      step("Transpose", [part("rows")], codes!, [["perm", [1, 0]]]),
      withConstants({ ...step("Squeeze", [part("scale")], scales!) }, [[1]]),
    ];
  },
  Int8MatMul: (node) => [{ ...plain(node), op: "DynamicQuantizeMatMul", domain: "com.microsoft" }],
  ReduceSum: (node) => [reduce(node, node.attributes)],
  ReduceMean: (node) => [reduce(node, node.attributes)],
  ReduceMax: (node) => [reduce(node, node.attributes)],
  Unsqueeze: (node) => [withConstants(plain(node), [node.attributes.axes])],
  Squeeze: (node) => [withConstants(plain(node), [node.attributes.axes])],
  Transpose: (node) => [plain(node, [["perm", node.attributes.permutation]])],
  Concat: (node) => [plain(node, [["axis", node.attributes.axis]])],
  Split: (node) => [plain(node, [["axis", node.attributes.axis]])],
  Gather: (node) => [plain(node, [["axis", node.attributes.axis]])],
  GatherElements: (node) => [plain(node, [["axis", node.attributes.axis]])],
  BitShift: (node) => [plain(node, [["direction", node.attributes.direction]])],
  DequantizeLinear: (node) => {
    const { axis, block } = node.attributes;
    return [
      plain(node, [
        ["axis", axis],
        ["block_size", block],
      ]),
    ];
  },
  // Level 0 computes with the weights as they are. Level 4 rounds the inputs to 8 bits a block, and gives zeros where
  // scales are no constants, as those behind a cast (onnxruntime 1.30).
  MatMulNBits: (node) => {
    const { bits, block } = node.attributes;
    const [x, codes] = node.inputs;
    return [
      {
        ...plain(node, [
          ["K", x!.shape[1] as number],
          ["N", codes!.shape[0] as number],
          ["bits", bits],
          ["block_size", block],
          ["accuracy_level", 0],
        ]),
        domain: "com.microsoft",
      },
    ];
  },
  Slice: (node) => {
    const { axis, start, end, step } = node.attributes;
    return [withConstants(plain(node), [[start], [end], [axis], [step]])];
  },
  Pad: (node) => {
    const { axis, before, after } = node.attributes;
    const lowered = plain(node);
    const pads = int64([before, after]);
    const axes = int64([axis]);
    // Inputs: data, pads, constant value (left out: zero), axes.
    return [{ ...lowered, inputs: [lowered.inputs[0]!, pads.name, "", axes.name], constants: [pads, axes] }];
  },
  Expand: (node) => {
    const [data, like] = node.inputs;
    const shape = `${node.outputs[0]!.name}/shape`;
    return [step("Shape", [like!.name], shape), { ...plain(node), inputs: [data!.name, shape] }];
  },
  ScatterAdd: (node): OnnxNode[] => {
    const [like, indices, updates] = node.inputs;
    const name = node.outputs[0]!.name;
    return [
      step("Shape", [like!.name], `${name}/shape`),
      ...zerosOf(`${name}/shape`, `${name}/zeros`, updates!.type),
      step("ScatterElements", [`${name}/zeros`, indices!.name, updates!.name], name, [
        ["axis", node.attributes.axis],
        ["reduction", "add"],
      ]),
    ];
  },
  PermuteRows: (node) => [{ ...plain(node), op: "Gather", inputs: node.inputs.slice(0, 2).map(({ name }) => name) }],
};

function plain(node: Node, attributes: Attributes = []): OnnxNode {
  return {
    op: node.op,
    inputs: node.inputs.map(({ name }) => name),
    outputs: node.outputs.map(({ name }) => name),
    attributes,
    constants: [],
  };
}

function reduce(node: Node, { axes, keepDims }: OpAttributes["ReduceSum"]): OnnxNode {
  return withConstants(plain(node, [["keepdims", keepDims ? 1 : 0]]), [axes]);
}

/** Appends int64 vectors as further inputs. */
function withConstants(node: OnnxNode, vectors: (readonly number[])[]): OnnxNode {
  const constants = vectors.map(int64);
  return { ...node, inputs: [...node.inputs, ...constants.map(({ name }) => name)], constants };
}

/** ConstantOfShape yields float32 zeros; other float types are cast from it. */
function zerosOf(shape: string, name: string, type: ElementType): OnnxNode[] {
  return [
    step("ConstantOfShape", [shape], `${name}/float32`),
    step("Cast", [`${name}/float32`], name, [["to", onnxDataTypes[type]]]),
  ];
}

/** ONNX TensorProto.DataType numbers. */
export const onnxDataTypes: Record<ElementType, number> = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  float64: 11,
  bfloat16: 16,
  float8e4m3fn: 17,
  uint4: 21,
};
