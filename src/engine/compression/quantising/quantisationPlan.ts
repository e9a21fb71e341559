import type { QuantisationFormat, QuantisationPlan } from "../../../protocol/plan";
import type { CompressOptions } from "../../../protocol/recipe";
import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import type { TensorLayout } from "../../checkpoint/headerFormat";
import type { ModelDescription } from "../../model/description";
import { quantisationKey } from "../../model/quantisation/scheme";
import { projections } from "../layer/expertMatrices";
import type { MethodContext } from "../methodContext";
import { moeLayers } from "../../model/moeLayers";
import { checkQuantisation } from "./checkQuantisation";
import { evolvedBits, requireLayers } from "./evolvedBits";
import { blockLayouts, fusedProjections } from "./fusedBlocks";
import { loaderNotes } from "./loaders";
import { mixedLayers, widthLosses, widthsOf, type WidthLosses } from "./mixedWidths";
import { awqOptions, gptqOptions, type MixedOptions } from "./options";
import { float8Block, outputFormats } from "./outputFormats";
import { widthEffects } from "./widthEffects";
import { storedProjection } from "./storedProjection";
import { formOf, replacedWeights, scaleTypeOf } from "./quantisedTensors";

/** One width for all layers, or widths by what experts lose within a budget. */
export async function planQuantisation(
  context: MethodContext,
  chosen: Readonly<Record<string, unknown>>,
): Promise<QuantisationPlan> {
  const { description, fingerprint, options, seed } = context;
  const all = { ...options.options, ...(chosen as CompressOptions["options"]) };
  const uniform = uniformPlan(description, { ...options, options: { ...all, allocate: "none" } });
  checkQuantisation(uniform, description);
  const mixed = mixedOptionsOf(options.method, all);
  const searched = mixed?.allocate === "evoesap" ? await evolvedBits(context, uniform, mixed) : null;
  const layers =
    searched?.layers ??
    (mixed ? mixedLayers(description, uniform, mixed, await lossesOf(context, uniform, mixed)) : uniform.layers);
  const plan: QuantisationPlan = { ...uniform, layers, options: all, teacherFingerprint: fingerprint, seed };
  const { notes } = loaderNotes(plan, description);
  return { ...plan, notes: searched ? [...notes, searched.note] : notes };
}

type ChosenWidths = NonNullable<ReturnType<typeof mixedOptionsOf>>;

function lossesOf(context: MethodContext, uniform: QuantisationPlan, mixed: ChosenWidths): Promise<WidthLosses> {
  return mixed.allocate === "loss"
    ? widthEffects(context, uniform, mixed, widthsOf(mixed))
    : widthLosses(context, mixed);
}

/**
 * The options of methods that give experts different widths, where they do; null elsewhere.
 * @throws RerouteError arguments/invalid for a search of what has none
 */
function mixedOptionsOf(method: string, options: CompressOptions["options"]) {
  const schema = method === "gptq" ? gptqOptions : method === "awq" ? awqOptions : null;
  const parsed = schema?.safeParse(options).data;
  if (parsed === undefined || parsed.allocate === "none") return null;
  requireLayers(parsed);
  return parsed;
}

/** What a method does to every layer, from shapes alone. */
export function uniformPlan(
  description: ModelDescription,
  { method, options }: Pick<CompressOptions, "method" | "options">,
): QuantisationPlan {
  const format = formatOf(method, options);
  const grid = gridOf(format, options);
  const plan: QuantisationPlan = {
    ...{ schemaVersion: 1, paradigm: "quantisation", method, format, options: { ...options } },
    layers: Object.fromEntries(moeLayers(description).map(({ layer }) => [String(layer), { ...grid }])),
  };
  const mixed = mixedOptionsOf(method, options);
  return mixed ? { ...plan, layers: mixedLayers(description, plan, mixed, assumedLosses(description, mixed)) } : plan;
}

/** Losses as they are before any text was seen: a quarter for each bit more, ten times as much in the last layer as in the first. */
function assumedLosses(description: ModelDescription, mixed: MixedOptions): WidthLosses {
  const layers = moeLayers(description);
  return new Map(
    layers.map(({ layer, moe }, i) => [
      layer,
      Object.fromEntries(
        widthsOf(mixed).map((bits) => [
          bits,
          moe.experts.map((_, e) => 10 ** ((i + e / moe.numExperts) / layers.length) * 4 ** -bits),
        ]),
      ),
    ]),
  );
}

function formatOf(method: string, { format }: CompressOptions["options"]): QuantisationFormat {
  if (typeof format === "string" && Object.hasOwn(outputFormats, format)) return format as QuantisationFormat;
  return method === "fp8" ? "fp8-block" : method === "mxfp4" ? "mxfp4" : "pack-quantized";
}

function gridOf(format: QuantisationFormat, { bits, group, symmetric }: CompressOptions["options"]) {
  switch (format) {
    case "pack-quantized":
      return {
        bits: typeof bits === "number" ? bits : 4,
        group: typeof group === "number" ? group : 128,
        ...(symmetric === false ? { symmetric } : {}),
      };
    case "fp8-block":
      return { bits: 8, group: float8Block };
    case "fp8":
      return { bits: 8, group: 0 };
    case "mxfp4":
      return { bits: 4, group: 32 };
  }
}

/**
 * Refuses widths that a format does not have.
 * @throws RerouteError plan/invalid
 */
export function validateQuantisedLayer(plan: QuantisationPlan, layer: number, numExperts: number): void {
  const { bits: common, group, symmetric, experts = [] } = plan.layers[String(layer)]!;
  if (symmetric === false && plan.format !== "pack-quantized") {
    throw new RerouteError(
      "plan/invalid",
      `The plan gives layer ${layer} zero points, which ${plan.format} does not have; only pack-quantized does`,
    );
  }
  if (experts.length > 0 && experts.length !== numExperts) {
    throw new RerouteError(
      "plan/invalid",
      `The plan has bits of ${experts.length} experts for layer ${layer}, which has ${numExperts}`,
    );
  }
  const fits = (own: number) =>
    plan.format === "pack-quantized" ? [2, 3, 4, 8].includes(own) : own === (plan.format === "mxfp4" ? 4 : 8);
  const bits = [common, ...experts].find((own) => !fits(own));
  if (bits === undefined) return;
  throw new RerouteError(
    "plan/invalid",
    `The plan gives layer ${layer} ${bits} bits and a group of ${group}, which ${plan.format} does not have; ` +
      `pack-quantized has 2, 3, 4 and 8 bits, fp8 and fp8-block 8, mxfp4 4`,
  );
}

/**
 * Refuses a checkpoint that is quantised already: its quantization_config would have to say two things.
 * @throws RerouteError model/unsupported-option
 */
export function requireUnquantised({ config }: Pick<Checkpoint, "config">): void {
  if (!Object.hasOwn(config, quantisationKey) || config[quantisationKey] === null) return;
  throw new RerouteError(
    "model/unsupported-option",
    "This checkpoint is quantised already (quantization_config in its config.json); quantise the BF16 checkpoint that it was made from. " +
      "Experts of a quantised checkpoint can be pruned, which copies their bytes",
  );
}

/** Names, dtypes and shapes of a quantised checkpoint's tensors. */
export function quantisedLayouts(
  checkpoint: Checkpoint,
  description: ModelDescription,
  plan: QuantisationPlan,
): (TensorLayout | TensorEntry)[] {
  const made: TensorLayout[] = [];
  const replaced = new Set<string>();
  checkQuantisation(plan, description);
  for (const { layer, moe } of moeLayers(description)) {
    const form = formOf(plan, layer);
    for (const name of replacedWeights(moe)) replaced.add(name);
    const fused = fusedProjections(moe);
    if (fused !== null) made.push(...blockLayouts(moe, fused));
    for (const e of fused === null ? moe.experts.keys() : []) {
      for (const projection of projections) {
        const { module, size } = storedProjection(moe, e, projection);
        const parts = outputFormats[form.format].parts(size, form.grid(e), scaleTypeOf(moe));
        made.push(...parts.map((part) => ({ ...part, name: `${module}.${part.name}` })));
      }
    }
  }
  return [...[...checkpoint.tensors.values()].filter(({ name }) => !replaced.has(name)), ...made];
}
