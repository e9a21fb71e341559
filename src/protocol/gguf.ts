/** Types of the routed experts in an exported GGUF file; other matrices are f16, or q8_0 where experts are smaller. */
export const ggufFileTypes = ["f16", "q8_0", "q4_0", "mxfp4"] as const;
export type GgufFileType = (typeof ggufFileTypes)[number];

/** A checkpoint written as one GGUF file. */
export interface ExportedGguf {
  /** llama.cpp's name of it. */
  architecture: string;
  bytes: number;
  tensors: number;
  /** What the file has otherwise than asked for. */
  notes: string[];
}
