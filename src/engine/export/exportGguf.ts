import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import type { ExportedGguf, GgufFileType } from "../../protocol/gguf";
import type { ReportProgress } from "../../protocol/progress";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { requireFreeSpace } from "../checkpoint/diskSpace";
import { quote } from "../checkpoint/quote";
import { refuseExistingFile, writeGguf, type GgufSource } from "../gguf/write";
import type { ModelDescription, SoftmaxAttention } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { fitsHalf, ggufEncodings } from "../weights/ggufBlocks";
import { modelFields } from "./ggufFields";
import { exportedTensors, type ExportedTensor } from "./ggufTensors";
import { tokenizerFields } from "./ggufTokenizer";
import { partValues } from "./partValues";
import { requireExportable } from "./refuseOthers";

export interface ExportGgufRequest {
  checkpoint: Checkpoint;
  description: ModelDescription;
  /** Must not exist. */
  filePath: string;
  type: GgufFileType;
  runtime: RuntimeOptions;
  /** Says what would be written, and refuses what would be refused, without writing. */
  dryRun?: boolean;
  signal?: AbortSignal | undefined;
  report?: ReportProgress | undefined;
}

/**
 * Writes a checkpoint as one GGUF file for llama.cpp, a matrix at a time.
 * @throws RerouteError preflight/disk, model/unsupported-family, model/unsupported-option, data/tokenizer, output/not-empty,
 * output/write-failed, checkpoint/not-finite, cancelled
 */
export async function exportGguf(request: ExportGgufRequest): Promise<ExportedGguf> {
  const { checkpoint, description, filePath, type, runtime, signal, report } = request;
  await refuseExistingFile(filePath);
  const model = requireExportable(description);
  const vocabulary = await tokenizerFields(checkpoint.directory, description.vocabSize);
  const fields = new Map([...modelFields(model, path.basename(checkpoint.directory), type), ...vocabulary]);
  const tensors = exportedTensors(model, type);
  const sources = tensors.map((tensor) => sourceOf(tensor, checkpoint, runtime));
  const total = sources.reduce((sum, { byteLength }) => sum + byteLength, 0);
  await requireFreeSpace(filePath, total);
  let done = 0;
  const onBytes = (bytes: number) => {
    done += bytes;
    report?.({ stage: "export", message: `Writing ${path.basename(filePath)}`, done, total, unit: "bytes" });
  };
  const bytes = request.dryRun ? total : await writeGguf(filePath, fields, sources, { signal, onBytes });
  return {
    ...{ architecture: model.architecture.name, bytes, tensors: tensors.length },
    notes: notesOf(request, tensors, !vocabulary.has("tokenizer.ggml.tokens")),
  };
}

function sourceOf(tensor: ExportedTensor, checkpoint: Checkpoint, runtime: RuntimeOptions): GgufSource {
  const { name, type, parts, stacked } = tensor;
  const { id, blockElements, blockBytes, encode } = ggufEncodings[type];
  const shape = stacked ? [parts.length, ...tensor.shape] : tensor.shape;
  const numbers = shape.reduce((product, size) => product * size, 1);
  return {
    ...{ name, typeId: id, shape, byteLength: (numbers / blockElements) * blockBytes },
    async *parts() {
      for (const part of parts) {
        for await (const values of partValues(checkpoint, part, runtime)) {
          if (type !== "F32" && type !== "MXFP4" && !fitsHalf(values)) {
            throw new RerouteError(
              "checkpoint/not-finite",
              `${quote(part.view.tensor)} has weights beyond 65504, which ${type} cannot hold; export with --type mxfp4`,
            );
          }
          yield encode(values);
        }
      }
    },
  };
}

function notesOf(
  { description, type }: ExportGgufRequest,
  tensors: readonly ExportedTensor[],
  isBare: boolean,
): string[] {
  const notes: string[] = [];
  const narrow = tensors.filter((tensor) => type !== "f16" && tensor.type === "F16");
  if (narrow.length > 0) {
    notes.push(
      `${narrow.length} tensors are F16: their rows are no multiple of the 32 weights that share a scale ` +
        `(${narrow[0]!.name}: ${narrow[0]!.shape.at(-1)})`,
    );
  }
  const { rotary } = description.layers[0]!.attention as SoftmaxAttention;
  if (rotary?.scaling.type === "yarn" && !rotary.scaling.truncate) {
    notes.push(
      "YaRN's borders lie between two pairs of dimensions here, and llama.cpp rounds them: the pairs between turn a little more or less",
    );
  }
  if (isBare) notes.push("there is no tokenizer.json: the file has no vocabulary, and takes token ids alone");
  if (description.unusedTensors.length > 0) {
    notes.push(
      `${description.unusedTensors.length} tensors that the forward pass does not use are left out (${quote(description.unusedTensors[0]!)}, …)`,
    );
  }
  return notes;
}
