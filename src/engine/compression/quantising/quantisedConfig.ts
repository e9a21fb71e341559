import type { QuantisationPlan } from "../../../protocol/plan";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import type { ModelDescription } from "../../model/description";
import type { JsonObject } from "../../model/family";
import { quantisationKey } from "../../model/quantisation/scheme";
import { moeLayers } from "../../model/moeLayers";
import { projections } from "../layer/expertMatrices";
import { fusedProjections } from "./fusedBlocks";
import { float8Block } from "./outputFormats";
import { storedProjection } from "./storedProjection";

/** config.json with the quantization_config that the loaders of this format read. */
export function quantisedConfig(
  { config, tensors }: Pick<Checkpoint, "config" | "tensors">,
  description: ModelDescription,
  plan: QuantisationPlan,
): JsonObject {
  const layers = moeLayers(description);
  if (layers.some(({ moe }) => fusedProjections(moe) !== null)) return { ...config, [quantisationKey]: fusedConfig };
  const modules = layers.flatMap(({ moe }) =>
    moe.experts.flatMap((_, e) => projections.map((projection) => storedProjection(moe, e, projection).module)),
  );
  const quantised = new Set(modules);
  const kept = withHead(
    [...tensors.values()]
      .filter(({ name, shape }) => name.endsWith(".weight") && shape.length === 2)
      .map(({ name }) => name.slice(0, -".weight".length))
      .filter((module) => !quantised.has(module)),
  );
  return {
    ...config,
    [quantisationKey]: plan.format === "fp8-block" ? blockConfig(kept) : compressedTensorsConfig(plan, modules, kept),
  };
}

/** What gpt-oss is released with: the experts alone are MXFP4. */
const fusedConfig: JsonObject = {
  quant_method: "mxfp4",
  modules_to_not_convert: ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
};

/** A tied head has no tensor of its own, and loaders meet it all the same. */
function withHead(modules: readonly string[]): string[] {
  return modules.some((name) => name.endsWith("lm_head")) ? [...modules] : ["lm_head", ...modules];
}

function blockConfig(kept: readonly string[]): JsonObject {
  return {
    ...{ quant_method: "fp8", fmt: "e4m3", activation_scheme: "dynamic" },
    weight_block_size: [float8Block, float8Block],
    modules_to_not_convert: kept,
  };
}

/** What one of config_groups is about. */
interface Grid {
  bits: number;
  group: number;
  symmetric: boolean;
}

function compressedTensorsConfig(
  { format, layers }: QuantisationPlan,
  quantised: readonly string[],
  kept: readonly string[],
): JsonObject {
  const stored = format === "fp8" ? "float-quantized" : format === "mxfp4" ? "mxfp4-pack-quantized" : "pack-quantized";
  const byGrid = new Map<string, Grid & { places: Map<string, number[] | null>; size: number }>();
  for (const [layer, { bits: common, group, symmetric = true, experts }] of Object.entries(layers)) {
    for (const bits of new Set(experts ?? [common])) {
      const key = `${bits} ${group} ${symmetric}`;
      const known = byGrid.get(key) ?? { bits, group, symmetric, places: new Map<string, number[] | null>(), size: 0 };
      const own = experts?.flatMap((width, e) => (width === bits ? [e] : [])) ?? null;
      known.places.set(layer, own);
      known.size += own === null ? 1 : own.length / experts!.length;
      byGrid.set(key, known);
    }
  }
  // The class target is the only one that no loader's own names get in the way of: the most layers have it.
  const grids = [...byGrid.values()].sort((a, b) => b.size - a.size);
  const groups = grids.map(({ places, ...grid }, i) => ({
    targets: i === 0 ? ["Linear"] : targetsOf(places),
    format: stored,
    input_activations: format === "fp8" ? float8Activations : null,
    output_activations: null,
    weights: weightsOf(format, grid),
  }));
  return {
    quant_method: "compressed-tensors",
    format: stored,
    quantization_status: "compressed",
    global_compression_ratio: null,
    kv_cache_scheme: null,
    ignore: ignoreList(kept, quantised),
    config_groups: Object.fromEntries(groups.map((group, i) => [`group_${i}`, group])),
  };
}

/** Whole layers as one pattern, and one for each layer of which some experts are meant. */
function targetsOf(places: ReadonlyMap<string, number[] | null>): string[] {
  const whole = [...places].flatMap(([layer, experts]) => (experts === null ? [layer] : []));
  const some = [...places].flatMap(([layer, experts]) =>
    experts === null ? [] : [`re:.*\\.layers\\.${layer}\\..*experts\\.(${experts.join("|")})\\.`],
  );
  return [...(whole.length > 0 ? [`re:.*\\.layers\\.(${whole.join("|")})\\..*experts\\.`] : []), ...some];
}

const common = { dynamic: false, actorder: null, block_structure: null, observer: null, observer_kwargs: {} };
/** What servers round inputs to, by what they see. */
const float8Activations = {
  ...{ num_bits: 8, type: "float", symmetric: true, strategy: "token", group_size: null },
  ...{ ...common, dynamic: true },
};

function weightsOf(format: QuantisationPlan["format"], { bits, group, symmetric }: Grid): JsonObject {
  const isFloat = format !== "pack-quantized";
  return {
    ...{ num_bits: bits, type: isFloat ? "float" : "int", symmetric },
    ...{ strategy: group === 0 ? "channel" : "group", group_size: group === 0 ? null : group },
    ...common,
    ...(format === "mxfp4" ? { scale_dtype: "torch.uint8" } : {}),
  };
}

/**
 * Patterns for all modules that stay as they are, layers and experts by any number where none of these is quantised. Loaders
 * match them from the start of their own names, which may have something in front.
 */
export function ignoreList(kept: readonly string[], quantised: readonly string[]): string[] {
  const patterns = new Map<string, string[]>();
  for (const module of kept) {
    const inLayer = /\.layers\.\d+\.(.*)$/.exec(module)?.[1];
    const pattern = inLayer === undefined ? module : `re:.*\\.${escaped(inLayer)}$`;
    patterns.set(pattern, [...(patterns.get(pattern) ?? []), module]);
  }
  return [...patterns].flatMap(([pattern, modules]) => {
    if (!pattern.startsWith("re:")) return [pattern];
    const matcher = new RegExp(`^(?:${pattern.slice("re:".length)})`);
    if (!quantised.some((module) => matcher.test(module))) return [pattern];
    // A layer behind the last (multi-token prediction) keeps experts of the same names.
    return [...new Set(modules.map((module) => `re:.*${escaped(module.replace(/^.*(?=\.layers\.)/, ""), true)}$`))];
  });
}

/** As a pattern; numbers of experts, and of layers unless they stay, are any number. */
function escaped(name: string, keepsLayer = false): string {
  const layer = keepsLayer ? /^\.layers\.\d+/.exec(name)?.[0] : undefined;
  const rest = layer === undefined ? name : name.slice(layer.length);
  const any = rest.replaceAll(".", "\\.").replace(/(?<=\.)\d+(?=\\\.|$)/g, "\\d+");
  return layer === undefined ? any : layer.replaceAll(".", "\\.") + any;
}
