import { readObject, readString, type Config, readIntList, unsupported } from "../config";
import { compressedTensorsSchemes } from "./compressedTensorsConfig";
import { awqSchemes, gptqSchemes } from "./gptqConfig";
import { notRead, quantisationKey, type Schemes, type ScaleBlock } from "./scheme";

/**
 * DeepSeek-V3 and its kin: F8_E4M3 codes with one scale a block (`weight_scale_inv`, which multiplies in spite of its name).
 * @throws RerouteError model/unsupported-option
 */
function fp8Schemes(quantisation: Config): Schemes {
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

const methods: Readonly<Record<string, (quantisation: Config) => Schemes>> = {
  "compressed-tensors": compressedTensorsSchemes,
  gptq: gptqSchemes,
  awq: awqSchemes,
  fp8: fp8Schemes,
  // Which tensors are MXFP4 is in the names of gpt-oss alone.
  mxfp4: () => () => null,
};

/**
 * The schemes of a checkpoint.
 * @throws RerouteError model/unsupported-option for what Reroute does not read, checkpoint/malformed
 */
export function readSchemes(config: Config): Schemes {
  const quantisation = readObject(config, quantisationKey);
  if (quantisation === null) return () => null;
  const method = readString(quantisation, "quant_method");
  const known = method !== null && Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (known === undefined) throw notRead("quant_method", method, Object.keys(methods).join(", "));
  return known(quantisation);
}
