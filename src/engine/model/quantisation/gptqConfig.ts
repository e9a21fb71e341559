import { readBoolean, readChoice, readObject, type Config } from "../config";
import { moduleMatcher } from "./rules";
import { notRead, readBits, readGroup, type Scheme, type Schemes } from "./scheme";

/**
 * GPTQ as AutoGPTQ and GPTQModel write it. `dynamic` are ordered patterns: "-:" leaves modules alone, others give theirs
 * another width or group.
 * @throws RerouteError model/unsupported-option
 */
export function gptqSchemes(quantisation: Config): Schemes {
  if (readBoolean(quantisation, "desc_act", false)) {
    throw notRead(
      "desc_act",
      true,
      "false: inputs in their own order (an index order g_idx is loaded by no current server)",
    );
  }
  const format = readChoice(quantisation, "checkpoint_format", ["gptq", "gptq_v2"], "gptq");
  const zeroOffset = format === "gptq" ? 1 : 0;
  const scheme = (own: Config): Scheme => ({
    kind: "gptq",
    bits: readBits("bits", own["bits"] ?? quantisation["bits"]),
    group: readGroup("group_size", own["group_size"] ?? quantisation["group_size"]),
    zeroOffset,
  });
  const common = scheme({});
  const rules = Object.entries(readObject(quantisation, "dynamic") ?? {}).map(([key, own]) => {
    const excludes = key.startsWith("-:");
    const settings = typeof own === "object" && own !== null ? (own as Config) : {};
    return {
      matches: moduleMatcher(key.replace(/^[-+]:/, "")),
      scheme: excludes ? null : scheme(settings),
    };
  });
  return (module) => {
    const rule = rules.find(({ matches }) => matches(module));
    return rule === undefined ? common : rule.scheme;
  };
}

/**
 * AWQ as AutoAWQ writes it: 4 bits, with zero points.
 * @throws RerouteError model/unsupported-option
 */
export function awqSchemes(quantisation: Config): Schemes {
  const bits = quantisation["bits"] ?? quantisation["w_bit"];
  if (bits !== 4) throw notRead("bits", bits, "4");
  const version = quantisation["version"];
  if (typeof version !== "string" || version.toLowerCase() !== "gemm") throw notRead("version", version, "gemm");
  const scheme: Scheme = {
    kind: "awq",
    group: readGroup("group_size", quantisation["group_size"] ?? quantisation["q_group_size"]),
  };
  return () => scheme;
}
