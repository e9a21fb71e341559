import { RerouteError } from "../../../protocol/errors";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { copyTensor, type ByteSource, type TensorSource } from "../../checkpoint/tensorSource";
import type { ModelDescription, MoeDescription } from "../../model/description";
import type { ModelFamily } from "../../model/family";
import { byteLengthOf, elementCount } from "../../tensor/dtype";
import { moeLayers } from "../../model/moeLayers";
import { predictionLayers, slicedTensors } from "../plan/predictionLayers";
import { copySlices } from "../pruning/pruneTensors";
import { expertViews } from "./expertMatrices";
import { stagedName, type LayerOutcome, type OutputExpert } from "./stagedExperts";

/** What became of a layer: how its experts come out, and the staged tensors. */
export interface CompressedLayer {
  outcome: LayerOutcome;
  staged: ReadonlyMap<string, TensorEntry>;
  /** Stored tensors that the staged ones, under their own names, take the place of (factored output). */
  replaced?: ReadonlySet<string>;
}

/**
 * The tensors of a checkpoint whose experts were merged or edited, in the layout it was read in: staged experts take the
 * place of the original whose layout they have, all others and everything else are copied as raw bytes.
 */
export function compressedTensors(
  checkpoint: Checkpoint,
  family: ModelFamily,
  description: ModelDescription,
  layers: ReadonlyMap<number, CompressedLayer>,
): TensorSource[] {
  const known: KnownLayer[] = moeLayers(description).flatMap(({ layer, moe }) => {
    const compressed = layers.get(layer);
    return compressed ? [{ moe, ...compressed, rows: rowTensors(family, layer, moe) }] : [];
  });
  known.push(...slicedPredictionLayers(family, description, layers));
  const sources: TensorSource[] = [];
  const replaced = new Set([...layers.values()].flatMap((layer) => [...(layer.replaced ?? [])]));
  for (const entry of checkpoint.tensors.values()) {
    if (replaced.has(entry.name)) continue;
    const rows = known.find((layer) => layer.rows.has(entry.name));
    if (rows) {
      const { routerRows } = rows.outcome;
      sources.push(routerRows === null ? copyTensor(entry) : copySlices(entry, routerRows, rows.rows.get(entry.name)!));
      continue;
    }
    const fused = known.find(({ moe }) => moe.storage.kind === "fused" && moe.storage.tensors.includes(entry.name));
    if (fused) {
      sources.push(fusedTensor(entry, fused));
      continue;
    }
    const own = known.find(({ moe }) => expertId(entry.name, moe) !== null);
    if (own) sources.push(...expertTensors(entry, own));
    else sources.push(copyTensor(entry));
  }
  for (const layer of layers.values()) {
    if (layer.replaced) sources.push(...[...layer.staged.values()].map((entry) => copyTensor(entry)));
  }
  return sources;
}

interface KnownLayer extends CompressedLayer {
  moe: MoeDescription;
  /** Tensors with one entry per router row, and their axis. */
  rows: ReadonlyMap<string, number>;
}

/**
 * Layers for multi-token prediction, where folding leaves fewer router rows: nothing was observed there to merge by, so
 * they keep the experts with the ids of the last sparse layer's dominant ones, unmerged.
 */
function slicedPredictionLayers(
  family: ModelFamily,
  description: ModelDescription,
  layers: ReadonlyMap<number, CompressedLayer>,
): KnownLayer[] {
  return predictionLayers(description).flatMap(({ moe, like, rename }): KnownLayer[] => {
    const routerRows = layers.get(like)?.outcome.routerRows ?? null;
    if (routerRows === null) return [];
    const experts = routerRows.map((source) => ({ source, stagedAs: null }));
    return [
      {
        moe,
        outcome: { experts, routerRows, logicalToPhysical: null },
        staged: new Map(),
        rows: rowTensors(family, like, moe, rename),
      },
    ];
  });
}

/** Tensors with one entry per router row, and their axis. */
function rowTensors(...layer: Parameters<typeof slicedTensors>): Map<string, number> {
  const { storage } = layer[2];
  const fused = storage.kind === "fused" ? storage.tensors : [];
  return new Map([...slicedTensors(...layer)].filter(([name]) => !fused.includes(name)));
}

/** A tensor whose first axis is the expert, put together from copied and staged slices. */
function fusedTensor(entry: TensorEntry, { moe, outcome, staged }: KnownLayer): TensorSource {
  const slice = entry.shape.slice(1);
  const sliceBytes = byteLengthOf(entry.dtype, slice);
  const parts = outcome.experts.flatMap(({ source, stagedAs }): ByteSource[] => {
    if (stagedAs === null) return [{ kind: "copy", entry, byteOffset: source * sliceBytes, byteLength: sliceBytes }];
    const views = expertViews(moe.experts[source]!)
      .filter(({ tensor }) => tensor === entry.name)
      .sort((a, b) => a.offset - b.offset);
    const covered = views.reduce((sum, { shape }) => sum + elementCount(shape), 0);
    if (covered !== elementCount(slice)) {
      throw new RerouteError("internal", `${quote(entry.name)}: the views of expert ${source} do not cover its slice`);
    }
    return views.map((view) => wholeOf(staged.get(stagedName(stagedAs, view))!));
  });
  return { name: entry.name, dtype: entry.dtype, shape: [outcome.experts.length, ...slice], parts };
}

/** What one stored tensor of one expert becomes: a copy or the staged tensor for each new expert made from it. */
function expertTensors(entry: TensorEntry, { moe, outcome, staged }: KnownLayer): TensorSource[] {
  const { id, prefix, suffix } = expertId(entry.name, moe)!;
  return outcome.experts.flatMap(({ source, stagedAs }: OutputExpert, position): TensorSource[] => {
    if (source !== id) return [];
    const name = `${prefix}${position}${suffix}`;
    const made = stagedAs === null ? undefined : staged.get(`${stagedAs}|${entry.name}`);
    return [made ? { ...copyTensor(made), name } : copyTensor(entry, name)];
  });
}

function expertId(name: string, moe: MoeDescription): { id: number; prefix: string; suffix: string } | null {
  if (moe.storage.kind !== "per-expert" || !name.startsWith(moe.storage.prefix)) return null;
  const { prefix } = moe.storage;
  const match = /^(0|[1-9]\d*)(\..*)$/.exec(name.slice(prefix.length));
  return match ? { id: Number(match[1]), prefix, suffix: match[2]! } : null;
}

function wholeOf(entry: TensorEntry): ByteSource {
  return { kind: "copy", entry, byteOffset: 0, byteLength: entry.byteLength };
}
