import type { ExecutionProvider } from "../../protocol/recipe";
import type { OpName } from "./graph";

/** An operation of ours whose own kernel a provider lacks or gets wrong: it is lowered to others (lowerForProvider.ts). */
export type ReplacedOp = Extract<
  OpName,
  "RmsNorm" | "MatMul" | "LogSoftmax" | "SoftmaxKl" | "ReduceMax" | "ScatterAdd"
>;

/** What a provider needs of a graph, beside ONNX. Everything that differs between providers is a row of `providerProfiles`. */
export interface ProviderProfile {
  /** How onnxruntime names it, with its options. */
  session: string | { name: string; [option: string]: string };
  /** Tensors that one kernel may read and write together; Split and Concat of more become trees. Infinity: any number. */
  mostBuffers: number;
  /** Lowered to other operations. */
  replaced: ReadonlySet<ReplacedOp>;
  /**
   * Half-precision weights are widened when a session is made and stay on the device, because the provider has no cast
   * from bfloat16: they would be cast by the CPU in each run, and cross to the device again.
   */
  widensWeights: boolean;
  /** The largest difference from the CPU in a node's result, over its largest magnitude, that is still rounding. */
  tolerance: number;
}

const likeCpu: Omit<ProviderProfile, "session"> = {
  mostBuffers: Infinity,
  replaced: new Set(),
  widensWeights: false,
  tolerance: 1e-4,
};

/** TF32 keeps 10 bits of each factor; products of a few hundred of them were seen to be off by about 1e-3. */
const tf32 = 5e-3;

/**
 * What is known of each provider, found by comparing every node of every block with the CPU (onnxruntime 1.30). Of CUDA,
 * DirectML and CoreML nothing is known to differ: they have not been seen by a test, and are checked before a run.
 */
export const providerProfiles: Record<ExecutionProvider, ProviderProfile> = {
  cpu: { ...likeCpu, session: "cpu" },
  cuda: { ...likeCpu, session: "cuda", tolerance: tf32 },
  directml: { ...likeCpu, session: "dml" },
  coreml: { ...likeCpu, session: "coreml" },
  webgpu: {
    // With NHWC, its default, a layout pass moves transposes through an Expand of lower rank: the fault for which
    // runtime/session.ts turns the optimiser off.
    session: { name: "webgpu", preferredLayout: "NCHW" },
    // What every WebGPU device allows a shader (maxStorageBuffersPerShaderStage).
    mostBuffers: 8,
    // The second result of its RMS norm, the inverse deviation, is wrong: gradients were 31 times off. The others have no
    // kernel there and ran on the CPU, their inputs and results crossing in every run.
    replaced: new Set(["RmsNorm", "MatMul", "LogSoftmax", "SoftmaxKl", "ReduceMax", "ScatterAdd"]),
    widensWeights: true,
    tolerance: 1e-4,
  },
};
