import type { LayerSummary } from "../../protocol/checkpointSummary";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { elementCount } from "../tensor/dtype";
import type { ModelDescription, MoeDescription } from "./description";
import { expertCountSpellings } from "./expertCount";
import { tensorRole, type TensorRole } from "./tensorRoles";

interface Size {
  parameters: number;
  bytes: number;
}

/** What all tensors of a layer come to. */
interface LayerSums {
  all: Size;
  routers: Size;
  routerTensor: string | null;
  experts: Size;
  /** Experts stored one by one. */
  expertIds: Set<number>;
  /** First axis of the first tensor that holds several experts; null without one. */
  fusedExperts: number | null;
  numExpertTensors: number;
  shared: Size;
  numSharedTensors: number;
}

/**
 * Parameters and bytes of every layer that has tensors, in order, those of multi-token prediction included, and the
 * parameters of all tensors. Scales and packing of quantised formats are not parameters. One pass that keeps sums only: a
 * model may have 100,000 tensors.
 */
export function summariseLayers(
  checkpoint: Checkpoint,
  description: ModelDescription | null,
): { layers: LayerSummary[]; parametersTotal: number } {
  const layers = new Map<number, LayerSums>();
  let parametersTotal = 0;
  for (const entry of checkpoint.tensors.values()) {
    const parameters = parametersOf(checkpoint, entry);
    parametersTotal += parameters;
    const role = tensorRole(entry.name);
    if (role.layer === null) continue;
    let sums = layers.get(role.layer);
    if (sums === undefined) layers.set(role.layer, (sums = noSums()));
    addTensor(sums, role, entry, parameters);
  }
  const summaries = [...layers]
    .sort(([a], [b]) => a - b)
    .map(([index, sums]) => {
      const part = description?.layers[index]?.feedForward;
      return { index, ...sums.all, moe: summariseMoe(checkpoint, sums, part?.kind === "moe" ? part : null) };
    });
  return { layers: summaries, parametersTotal };
}

function addTensor(sums: LayerSums, role: TensorRole, entry: TensorEntry, parameters: number): void {
  const { name, shape, byteLength } = entry;
  add(sums.all, parameters, byteLength);
  switch (role.kind) {
    case "expert":
      add(sums.experts, parameters, byteLength);
      sums.numExpertTensors++;
      if (role.expert !== null) sums.expertIds.add(role.expert);
      if (shape.length > 2) sums.fusedExperts ??= shape[0]!;
      break;
    case "router":
      add(sums.routers, parameters, byteLength);
      if (shape.length > 1) sums.routerTensor ??= name;
      break;
    case "shared-expert":
      add(sums.shared, parameters, byteLength);
      sums.numSharedTensors++;
      break;
    case "other":
  }
}

function summariseMoe({ config }: Checkpoint, sums: LayerSums, described: MoeDescription | null): LayerSummary["moe"] {
  if (sums.numExpertTensors === 0) return null;
  return {
    numExperts: described?.numExperts ?? countExperts(config, sums),
    routerTensor: described?.router.weight.tensor ?? sums.routerTensor ?? "",
    router: sums.routers,
    experts: sums.experts,
    sharedExperts: sums.numSharedTensors > 0 ? sums.shared : null,
  };
}

/** Distinct expert numbers, or the first axis of fused tensors; what config.json says where neither tells. */
function countExperts(config: Checkpoint["config"], { expertIds, fusedExperts }: LayerSums): number {
  if (expertIds.size > 0) return expertIds.size;
  return fusedExperts ?? expertCountSpellings.map((key) => config[key]).find(isCount) ?? 0;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function noSums(): LayerSums {
  const none = (): Size => ({ parameters: 0, bytes: 0 });
  const counts = { routerTensor: null, fusedExperts: null, numExpertTensors: 0, numSharedTensors: 0 };
  return { all: none(), routers: none(), experts: none(), shared: none(), expertIds: new Set(), ...counts };
}

function add(size: Size, parameters: number, bytes: number): void {
  size.parameters += parameters;
  size.bytes += bytes;
}

/** Names of what quantised formats store beside the values: scales, zero points, permutations. */
const quantisationSuffixes =
  /(?:_scale_inv|_scales?|\.scales|\.qzeros|\.g_idx|_shape|\.weight_scale|\.input_scale|_zero_point)$/;

function parametersOf(checkpoint: Checkpoint, { name, dtype, shape }: TensorEntry): number {
  // Nearly every tensor, and none of what follows.
  if (name.endsWith(".weight")) return elementCount(shape);
  const has = (other: string) => checkpoint.tensors.has(other);
  if (quantisationSuffixes.test(name) && isBesideValues(name, has)) return 0;
  const elements = elementCount(shape);
  // MXFP4 codes: a byte holds two values.
  if (dtype === "U8" && name.endsWith("_blocks") && has(`${name.slice(0, -"_blocks".length)}_scales`))
    return 2 * elements;
  // GPTQ and AWQ pack 4-bit values, eight in each 32-bit integer.
  return dtype === "I32" && name.endsWith(".qweight") ? 8 * elements : elements;
}

/**
 * True where the values that a scale belongs to are there. Some models have learnable scales under such names, and those
 * are parameters.
 */
function isBesideValues(name: string, has: (other: string) => boolean): boolean {
  const stem = name.replace(quantisationSuffixes, "");
  return [stem, `${stem}_blocks`, `${stem}.weight`, `${stem}.qweight`, `${stem}.weight_packed`, `${stem}_packed`].some(
    has,
  );
}
