import { RerouteError, throwIfCancelled } from "../../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { streamTensor } from "../../checkpoint/read";
import { decodeFloats } from "../../tensor/floatCodec";
import type { WeightView } from "../../weights/view";
import type { ModelDescription } from "../description";
import { isWeightView } from "../parameters";

/**
 * Reads the scales of every quantised matrix, which are a hundredth of its bytes: tools write NaN or zero for experts that
 * no calibration token reached, and what uses them computes nonsense without an error. Also that inputs are in their order.
 * @throws RerouteError checkpoint/not-finite naming the tensor; model/unsupported-option for another order of inputs
 */
export async function checkScales(
  { checkpoint, description }: { checkpoint: Checkpoint; description: ModelDescription },
  signal?: AbortSignal,
): Promise<void> {
  const seen = new Set<string>();
  for (const view of quantisedViews(description)) {
    const { quantisation } = view;
    if (quantisation === undefined || quantisation.kind === "factored") continue;
    throwIfCancelled(signal);
    const { scales } = quantisation;
    if (!seen.has(scales.tensor)) {
      seen.add(scales.tensor);
      await checkNumbers(checkpoint.tensors.get(scales.tensor)!, quantisation.kind !== "mxfp4", signal);
    }
    if (quantisation.kind === "gptq") await checkOrder(checkpoint, view.tensor, quantisation.group, signal);
  }
}

async function checkNumbers(entry: TensorEntry, isFloat: boolean, signal: AbortSignal | undefined): Promise<void> {
  await streamTensor(
    entry,
    (bytes, start) => {
      // Exponents of MXFP4 have one code for NaN and none for zero.
      const values = isFloat ? decodeFloats(bytes, entry.dtype) : bytes;
      for (let i = 0; i < values.length; i++) {
        const value = values[i]!;
        if (isFloat ? Number.isFinite(value) && value !== 0 : value !== 255) continue;
        throw new RerouteError(
          "checkpoint/not-finite",
          `The scales ${quote(entry.name)} in ${quote(entry.shard.name)} hold ${isFloat ? value : "NaN"} at element ${start + i}, expected finite ` +
            `numbers other than 0. An expert that no calibration token reached was quantised so; quantise it again from its own weights (rtn)`,
        );
      }
    },
    signal,
  );
}

async function checkOrder(
  { tensors }: Checkpoint,
  codes: string,
  group: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const entry = tensors.get(codes.replace(/qweight$/, "g_idx"));
  if (entry === undefined) return;
  await streamTensor(
    entry,
    (bytes, start) => {
      const order = decodeFloats(bytes, entry.dtype);
      const at = order.findIndex((value, i) => value !== Math.floor((start + i) / group));
      if (at < 0) return;
      throw new RerouteError(
        "model/unsupported-option",
        `${quote(entry.name)} puts input ${start + at} into group ${order[at]}, expected ${Math.floor((start + at) / group)}: an order of its own ` +
          `(desc_act), which no current server loads. Quantise again with static order, or convert the checkpoint to BF16`,
      );
    },
    signal,
  );
}

function quantisedViews(part: unknown): WeightView[] {
  if (typeof part !== "object" || part === null) return [];
  if (isWeightView(part)) return part.quantisation === undefined ? [] : [part];
  return Object.values(part).flatMap(quantisedViews);
}
