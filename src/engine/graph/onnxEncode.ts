import path from "node:path";
import protobuf from "protobufjs/light";
import type { Graph, Initialiser, Value } from "./graph";
import { lowerNode, onnxDataTypes } from "./onnxLower";
import type { OnnxNode } from "./onnxNode";
import { providerProfiles, type ProviderProfile } from "./providerProfiles";

/**
 * Encodes a graph as an ONNX model (IR 10, opset 21). File initialisers become `external_data`, whose location is their
 * path relative to `folder`.
 */
export function encodeOnnx(graph: Graph, folder: string, profile: ProviderProfile = providerProfiles.cpu): Uint8Array {
  const { renamed, copied } = nameOutputs(graph);
  const rename = (name: string) => renamed.get(name) ?? name;
  const nodes = graph.nodes
    .flatMap((node) => lowerNode(node, profile))
    .map((node) => ({ ...node, inputs: node.inputs.map(rename), outputs: node.outputs.map(rename) }));
  const constants = nodes.flatMap(({ constants }) => constants);
  const unique = new Map(constants.map((constant) => [constant.name, constant]));
  const message = {
    irVersion: 10,
    producerName: "reroute",
    opsetImport: [
      { domain: "", version: 21 },
      { domain: "com.microsoft", version: 1 },
    ],
    graph: {
      name: "block",
      node: nodes.map(encodeNode),
      initializer: [
        ...graph.initialisers.map((initialiser) => encodeInitialiser(initialiser, folder)),
        ...[...unique.values()].map(({ name, type, data }) => ({
          name,
          dims: [data.length],
          dataType: onnxDataTypes[type],
          rawData: new Uint8Array(
            (type === "int64" ? BigInt64Array.from(data, BigInt) : Float32Array.from(data)).buffer,
          ),
        })),
      ],
      input: graph.inputs.map((value) => valueInfo(value.name, value)),
      output: graph.outputs.map(({ name, value }) => valueInfo(name, value)),
    },
  };
  message.graph.node.push(
    ...copied.map(({ name, value }) =>
      encodeNode({ op: "Identity", inputs: [rename(value.name)], outputs: [name], attributes: [] }),
    ),
  );
  return modelType.encode(modelType.fromObject(message)).finish();
}

/**
 * A node's result simply takes the name of the graph output it is; inputs, initialisers and values that are two outputs
 * keep their names and are copied.
 */
function nameOutputs({ nodes, outputs }: Graph) {
  const produced = new Set(nodes.flatMap((node) => node.outputs));
  const renamed = new Map<string, string>();
  const copied: Graph["outputs"][number][] = [];
  for (const output of outputs) {
    if (produced.has(output.value) && !renamed.has(output.value.name)) renamed.set(output.value.name, output.name);
    else copied.push(output);
  }
  return { renamed, copied };
}

function encodeNode({ op, domain, inputs, outputs, attributes }: Omit<OnnxNode, "constants">) {
  return {
    opType: op,
    ...(domain === undefined ? {} : { domain }),
    name: outputs[0],
    input: inputs,
    output: outputs,
    attribute: attributes.map(([name, attribute]) =>
      typeof attribute === "number"
        ? { name, type: 2, i: attribute }
        : typeof attribute === "string"
          ? { name, type: 3, s: new TextEncoder().encode(attribute) }
          : "float" in attribute
            ? { name, type: 1, f: attribute.float }
            : { name, type: 7, ints: attribute },
    ),
  };
}

function encodeInitialiser(initialiser: Initialiser, folder: string) {
  const { value } = initialiser;
  const common = { name: value.name, dims: value.shape as number[], dataType: onnxDataTypes[value.type] };
  if (initialiser.kind === "constant") {
    const { data } = initialiser;
    return { ...common, rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) };
  }
  const { file, offset, length } = initialiser.range;
  return {
    ...common,
    dataLocation: 1,
    externalData: [
      { key: "location", value: path.relative(folder, file) },
      { key: "offset", value: String(offset) },
      { key: "length", value: String(length) },
    ],
  };
}

function valueInfo(name: string, { type, shape }: Value) {
  const dim = shape.map((size) => (typeof size === "number" ? { dimValue: size } : { dimParam: size }));
  return { name, type: { tensorType: { elemType: onnxDataTypes[type], shape: { dim } } } };
}

/** The part of onnx.proto that blocks need, with onnx.proto's field numbers. */
const modelType = protobuf.Root.fromJSON({
  nested: {
    Model: {
      fields: {
        irVersion: { id: 1, type: "int64" },
        producerName: { id: 2, type: "string" },
        graph: { id: 7, type: "Graph" },
        opsetImport: { id: 8, rule: "repeated", type: "Opset" },
      },
    },
    Opset: { fields: { domain: { id: 1, type: "string" }, version: { id: 2, type: "int64" } } },
    Graph: {
      fields: {
        node: { id: 1, rule: "repeated", type: "Node" },
        name: { id: 2, type: "string" },
        initializer: { id: 5, rule: "repeated", type: "Tensor" },
        input: { id: 11, rule: "repeated", type: "ValueInfo" },
        output: { id: 12, rule: "repeated", type: "ValueInfo" },
      },
    },
    Node: {
      fields: {
        input: { id: 1, rule: "repeated", type: "string" },
        output: { id: 2, rule: "repeated", type: "string" },
        name: { id: 3, type: "string" },
        opType: { id: 4, type: "string" },
        attribute: { id: 5, rule: "repeated", type: "Attribute" },
        domain: { id: 7, type: "string" },
      },
    },
    Attribute: {
      fields: {
        name: { id: 1, type: "string" },
        f: { id: 2, type: "float" },
        i: { id: 3, type: "int64" },
        s: { id: 4, type: "bytes" },
        ints: { id: 8, rule: "repeated", type: "int64" },
        type: { id: 20, type: "int32" },
      },
    },
    Tensor: {
      fields: {
        dims: { id: 1, rule: "repeated", type: "int64" },
        dataType: { id: 2, type: "int32" },
        name: { id: 8, type: "string" },
        rawData: { id: 9, type: "bytes" },
        externalData: { id: 13, rule: "repeated", type: "Entry" },
        dataLocation: { id: 14, type: "int32" },
      },
    },
    Entry: { fields: { key: { id: 1, type: "string" }, value: { id: 2, type: "string" } } },
    ValueInfo: { fields: { name: { id: 1, type: "string" }, type: { id: 2, type: "Type" } } },
    Type: { fields: { tensorType: { id: 1, type: "TensorType" } } },
    TensorType: { fields: { elemType: { id: 1, type: "int32" }, shape: { id: 2, type: "Shape" } } },
    Shape: { fields: { dim: { id: 1, rule: "repeated", type: "Dim" } } },
    Dim: { fields: { dimValue: { id: 1, type: "int64" }, dimParam: { id: 2, type: "string" } } },
  },
}).lookupType("Model");
