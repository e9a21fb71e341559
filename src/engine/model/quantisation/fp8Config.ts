import { readIntList, readString, unsupported, type Config } from "../config";
import type { ScaleBlock, Schemes } from "./scheme";

/**
 * DeepSeek-V3 and its kin: F8_E4M3 codes with one scale a block (`weight_scale_inv`, which multiplies in spite of its name).
 * @throws RerouteError model/unsupported-option
 */
export function fp8Schemes(quantisation: Config): Schemes {
  const activations = readString(quantisation, "activation_scheme");
  // A static scheme also rounds activations with stored scales; the numbers would differ from the model's own.
  if (activations !== null && activations !== "dynamic")
    throw unsupported("quantization_config.activation_scheme", activations, "dynamic");
  const size = readIntList(quantisation, "weight_block_size", { min: 1 });
  if (size === null) return () => null;
  const [rows, columns] = size;
  if (rows === undefined || columns === undefined || size.length !== 2) {
    throw unsupported("quantization_config.weight_block_size", size, "two integers");
  }
  const block: ScaleBlock = [rows, columns];
  return () => ({ kind: "scaled", scale: "scale_inv", block });
}
