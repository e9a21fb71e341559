import type { CheckpointSummary, LayerSummary } from "../../protocol/checkpointSummary";
import type { Checkpoint, TensorEntry } from "../checkpoint/checkpoint";
import { configSize, layerCountSpellings } from "./configSize";
import type { ModelDescription, MoeDescription } from "./description";
import { expertCountSpellings } from "./expertCount";
import { StoredParameters } from "./storedParameters";
import { isBesideDecoder, tensorRole, type TensorRole } from "./tensorRoles";

interface Size {
  parameters: number;
  bytes: number;
}

/** What all tensors of a layer come to. */
interface LayerSums {
  all: Size;
  routers: Size;
  routerTensor: string | null;
  /** First axis of the router's tensor. */
  routerRows: number | null;
  experts: Size;
  /** Experts stored one by one. */
  expertIds: Set<number>;
  /** First axis of the first tensor that holds several experts; null without one. */
  fusedExperts: number | null;
  numExpertTensors: number;
  shared: Size;
  numSharedTensors: number;
}

/** Layers of the decoder and what the checkpoint holds beside it. */
export interface LayersOfCheckpoint {
  layers: LayerSummary[];
  otherParts: CheckpointSummary["otherParts"];
  parametersTotal: number;
}

/** Hostile names could make a stack of every tensor. */
const maxOtherParts = 32;

/**
 * Parameters and bytes of every decoder layer that has tensors, in order; of the other stacks of layers (vision, audio,
 * prediction of further tokens, which may lie behind the last decoder layer under the same name); and the parameters of
 * all tensors. Scales and packing of quantised formats are not parameters. One pass that keeps sums only: a model may have
 * 100,000 tensors.
 */
export function summariseLayers(checkpoint: Checkpoint, description: ModelDescription | null): LayersOfCheckpoint {
  const stored = new StoredParameters(checkpoint);
  const stacks = new Map<string, Map<number, LayerSums>>();
  let parametersTotal = 0;
  for (const entry of checkpoint.tensors.values()) {
    const parameters = stored.of(entry);
    parametersTotal += parameters;
    const role = tensorRole(entry.name);
    if (role.layer === null) continue;
    let layers = stacks.get(role.stack);
    if (layers === undefined) stacks.set(role.stack, (layers = new Map<number, LayerSums>()));
    let sums = layers.get(role.layer);
    if (sums === undefined) layers.set(role.layer, (sums = noSums()));
    addTensor(sums, role, entry, parameters);
  }
  const decoder = decoderStack(stacks);
  const numLayers = description?.layers.length ?? configSize(checkpoint.config, layerCountSpellings) ?? Infinity;
  const layers: LayerSummary[] = [];
  const others = [...stacks]
    .filter(([stack]) => stack !== decoder)
    .map(([stack, found]) => partOf(stack, [...found.values()]));
  const behind: [number, LayerSums][] = [];
  for (const [index, sums] of [...(stacks.get(decoder) ?? [])].sort(([a], [b]) => a - b)) {
    if (index >= numLayers) {
      behind.push([index, sums]);
      continue;
    }
    const part = description?.layers[index]?.feedForward;
    layers.push({ index, ...sums.all, moe: summariseMoe(checkpoint, sums, part?.kind === "moe" ? part : null) });
  }
  if (behind.length > 0) {
    const [first, last] = [behind[0]![0], behind.at(-1)![0]];
    others.push(
      partOf(
        `${decoder}.${first}${first === last ? "" : ` to ${last}`}`,
        behind.map(([, sums]) => sums),
      ),
    );
  }
  return { layers, otherParts: others.slice(0, maxOtherParts), parametersTotal };
}

/** The stack with most routed experts; without experts, the one with most parameters that is not named as another part. */
function decoderStack(stacks: ReadonlyMap<string, ReadonlyMap<number, LayerSums>>): string {
  const ranked = [...stacks].map(([stack, layers]) => {
    const sum = (part: "experts" | "all") =>
      [...layers.values()].reduce((total, sums) => total + sums[part].parameters, 0);
    return { stack, beside: isBesideDecoder(stack), experts: sum("experts"), all: sum("all") };
  });
  ranked.sort((a, b) => Number(a.beside) - Number(b.beside) || b.experts - a.experts || b.all - a.all);
  return ranked[0]?.stack ?? "";
}

function partOf(name: string, layers: readonly LayerSums[]): CheckpointSummary["otherParts"][number] {
  const sum = (key: keyof Size) => layers.reduce((total, { all }) => total + all[key], 0);
  return { name, layers: layers.length, parameters: sum("parameters"), bytes: sum("bytes") };
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
      if (shape.length > 1 && sums.routerTensor === null) {
        sums.routerTensor = name;
        sums.routerRows = shape[0]!;
      }
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

/**
 * Distinct expert numbers, the first axis of fused tensors, or the rows of the router (DBRX stacks its experts' rows in one
 * axis); what config.json says where none of them tells.
 */
function countExperts(config: Checkpoint["config"], { expertIds, fusedExperts, routerRows }: LayerSums): number {
  if (expertIds.size > 0) return expertIds.size;
  return fusedExperts ?? configSize(config, expertCountSpellings) ?? routerRows ?? 0;
}

function noSums(): LayerSums {
  const none = (): Size => ({ parameters: 0, bytes: 0 });
  const nothing = { routerTensor: null, routerRows: null, fusedExperts: null };
  return {
    all: none(),
    routers: none(),
    experts: none(),
    shared: none(),
    expertIds: new Set(),
    ...nothing,
    numExpertTensors: 0,
    numSharedTensors: 0,
  };
}

function add(size: Size, parameters: number, bytes: number): void {
  size.parameters += parameters;
  size.bytes += bytes;
}
