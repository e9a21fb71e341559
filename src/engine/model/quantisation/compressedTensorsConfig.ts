import { readIntList, readObject, readString, readStringList, unsupported, type Config } from "../config";
import { moduleMatcher } from "./rules";
import { notRead, readBits, readGroup, type ScaleBlock, type Scheme, type Schemes } from "./scheme";

/**
 * compressed-tensors: groups of modules with a scheme each. A module is in the group that names it, else in the first whose
 * pattern ("re:") fits, else in that of its class, which is Linear for every weight here; `ignore` comes before all.
 * @throws RerouteError model/unsupported-option, checkpoint/malformed
 */
export function compressedTensorsSchemes(quantisation: Config): Schemes {
  const sparsity = readObject(quantisation, "sparsity_config");
  if (sparsity !== null && Object.keys(sparsity).length > 0 && sparsity["format"] !== "dense")
    throw notRead("sparsity_config.format", sparsity["format"], "none: sparse weights are stored dense");
  const format = readString(quantisation, "format");
  const groups = Object.entries(readObject(quantisation, "config_groups") ?? {}).map(([name, value]) => {
    const key = `config_groups.${name}`;
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw notRead(key, value, "an object");
    const group = value as Config;
    const targets = readStringList(group, "targets") ?? [];
    return { targets: targets.map(target), scheme: schemeOf(group, key, format) };
  });
  if (groups.length === 0) throw notRead("config_groups", null, "at least one group");
  const ignored = (readStringList(quantisation, "ignore") ?? []).map(target);
  const orders: Target["kind"][] = ["name", "pattern", "class"];
  return (module) => {
    if (ignored.some(({ kind, matches }) => kind !== "class" && matches(module))) return null;
    for (const kind of orders) {
      const group = groups.find(({ targets }) => targets.some((one) => one.kind === kind && one.matches(module)));
      if (group !== undefined) return group.scheme;
    }
    return null;
  };
}

interface Target {
  kind: "name" | "pattern" | "class";
  matches: (module: string) => boolean;
}

function target(text: string): Target {
  if (text.startsWith("re:")) return { kind: "pattern", matches: moduleMatcher(text.slice("re:".length)) };
  if (text === "Linear") return { kind: "class", matches: () => true };
  return { kind: "name", matches: (module) => module === text };
}

const formats = [
  "pack-quantized",
  "int-quantized",
  "float-quantized",
  "mxfp4-pack-quantized",
  "nvfp4-pack-quantized",
] as const;

function schemeOf(group: Config, key: string, common: string | null): Scheme | null {
  const weights = readObject(group, "weights");
  if (weights === null) return null;
  const activations = readObject(group, "input_activations");
  // Rounding that a server does by what it sees is left out; with stored ranges the numbers would differ from the model's own.
  if (activations !== null && activations["dynamic"] === false)
    throw notRead(`${key}.input_activations.dynamic`, false, "true");
  const found = readString(group, "format") ?? common;
  const format = formats.find((one) => one === found);
  if (format === undefined) throw notRead("format", found, formats.join(", "));
  switch (format) {
    case "pack-quantized":
      return packedScheme(weights, key);
    case "int-quantized":
    case "float-quantized":
      if (weights["num_bits"] !== 8) throw notRead(`${key}.weights.num_bits`, weights["num_bits"], "8");
      return { kind: "scaled", scale: "scale", block: scaleBlock(weights, key) };
    case "mxfp4-pack-quantized":
      return { kind: "mxfp4" };
    case "nvfp4-pack-quantized":
      return { kind: "nvfp4" };
  }
}

function packedScheme(weights: Config, key: string): Scheme {
  const { actorder, strategy, type } = weights;
  if (actorder === "group" || actorder === true)
    throw notRead(
      `${key}.weights.actorder`,
      actorder,
      "null, static: an index order g_idx is loaded by no current server",
    );
  if (type !== undefined && type !== "int") throw notRead(`${key}.weights.type`, type, "int");
  const bits = readBits(`${key}.weights.num_bits`, weights["num_bits"]);
  if (strategy !== "group" && strategy !== "channel")
    throw notRead(`${key}.weights.strategy`, strategy, "group, channel");
  return {
    kind: "packed",
    bits,
    group: strategy === "channel" ? null : readGroup(`${key}.weights.group_size`, weights["group_size"]),
  };
}

function scaleBlock(weights: Config, key: string): ScaleBlock {
  switch (weights["strategy"]) {
    case "channel":
      return "row";
    case "tensor":
      return "tensor";
    case "block": {
      const structure = readIntList(weights, "block_structure", { min: 1 });
      const [rows, columns] = structure ?? [];
      if (rows === undefined || columns === undefined)
        throw unsupported(`quantization_config.${key}.weights.block_structure`, structure, "two integers");
      return [rows, columns];
    }
    default:
      throw notRead(`${key}.weights.strategy`, weights["strategy"], "channel, tensor, block");
  }
}
