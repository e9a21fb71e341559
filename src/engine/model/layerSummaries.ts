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

/** Parameters and bytes of every layer that has tensors, in order, those of multi-token prediction included. */
export function summariseLayers(checkpoint: Checkpoint, description: ModelDescription | null): LayerSummary[] {
  const layers = new Map<number, { entry: TensorEntry; role: TensorRole }[]>();
  for (const entry of checkpoint.tensors.values()) {
    const role = tensorRole(entry.name);
    if (role.layer === null) continue;
    const found = layers.get(role.layer);
    if (found) found.push({ entry, role });
    else layers.set(role.layer, [{ entry, role }]);
  }
  return [...layers]
    .sort(([a], [b]) => a - b)
    .map(([index, tensors]) => {
      const part = description?.layers[index]?.feedForward;
      return {
        index,
        ...sizeOf(checkpoint, tensors),
        moe: summariseMoe(checkpoint, tensors, part?.kind === "moe" ? part : null),
      };
    });
}

/** Parameters of all tensors. Scales and packing of quantised formats are not parameters. */
export function totalParameters(checkpoint: Checkpoint): number {
  let sum = 0;
  for (const entry of checkpoint.tensors.values()) sum += parametersOf(checkpoint, entry);
  return sum;
}

function summariseMoe(
  checkpoint: Checkpoint,
  tensors: readonly { entry: TensorEntry; role: TensorRole }[],
  described: MoeDescription | null,
): LayerSummary["moe"] {
  const ofKind = (kind: TensorRole["kind"]) => tensors.filter(({ role }) => role.kind === kind);
  const experts = ofKind("expert");
  if (experts.length === 0) return null;
  const routers = ofKind("router");
  const shared = ofKind("shared-expert");
  return {
    numExperts: described?.numExperts ?? countExperts(checkpoint, experts),
    routerTensor:
      described?.router.weight.tensor ?? routers.find(({ entry }) => entry.shape.length > 1)?.entry.name ?? "",
    router: sizeOf(checkpoint, routers),
    experts: sizeOf(checkpoint, experts),
    sharedExperts: shared.length > 0 ? sizeOf(checkpoint, shared) : null,
  };
}

/** Distinct expert numbers, or the first axis of fused tensors; what config.json says where neither tells. */
function countExperts({ config }: Checkpoint, experts: readonly { entry: TensorEntry; role: TensorRole }[]): number {
  const ids = new Set(experts.map(({ role }) => role.expert).filter((expert) => expert !== null));
  if (ids.size > 0) return ids.size;
  const fused = experts.find(({ entry }) => entry.shape.length > 2)?.entry.shape[0];
  return fused ?? expertCountSpellings.map((key) => config[key]).find(isCount) ?? 0;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function sizeOf(checkpoint: Checkpoint, tensors: readonly { entry: TensorEntry }[]): Size {
  const size = { parameters: 0, bytes: 0 };
  for (const { entry } of tensors) {
    size.parameters += parametersOf(checkpoint, entry);
    size.bytes += entry.byteLength;
  }
  return size;
}

/** Names of what quantised formats store beside the values: scales, zero points, permutations. */
const quantisationSuffixes =
  /(?:_scale_inv|_scales?|\.scales|\.qzeros|\.g_idx|_shape|\.weight_scale|\.input_scale|_zero_point)$/;

function parametersOf(checkpoint: Checkpoint, { name, dtype, shape }: TensorEntry): number {
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
