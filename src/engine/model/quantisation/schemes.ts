import { readObject, readString, type Config } from "../config";
import { compressedTensorsSchemes } from "./compressedTensorsConfig";
import { fp8Schemes } from "./fp8Config";
import { awqSchemes, gptqSchemes } from "./gptqConfig";
import { notRead, quantisationKey, type Schemes } from "./scheme";

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
