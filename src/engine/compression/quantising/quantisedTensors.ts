import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import { quote } from "../../checkpoint/quote";
import { tensorFromBytes, type TensorSource } from "../../checkpoint/tensorSource";
import type { ExpertWeights, LinearDescription, MoeDescription } from "../../model/description";
import { readPacked, readScales, type StoredTensors } from "../../model/quantisation/readLinear";
import type { WritableFloat } from "../../tensor/floatCodec";
import { projectionOf } from "../editing/factoredTensors";
import { projections, type Projection } from "../layer/expertMatrices";
import { blockExperts, blockTensors, fusedProjections } from "./fusedBlocks";
import { outputFormats, type StoredGrid } from "./outputFormats";
import { storedProjection, type QuantisedExpert, type StoredProjection } from "./storedProjection";

/** How a layer's experts are written. */
export interface LayerForm {
  format: QuantisationPlan["format"];
  grid: (expert: number) => StoredGrid;
}

export function formOf({ format, layers }: QuantisationPlan, layer: number): LayerForm {
  const { bits, group, symmetric, experts } = layers[String(layer)]!;
  return { format, grid: (expert) => ({ bits: experts?.[expert] ?? bits, group, symmetric }) as StoredGrid };
}

/** What scales are stored in: the weights' own dtype. */
export function scaleTypeOf({ experts }: MoeDescription): WritableFloat {
  const { dtype } = experts[0]!.downProj.weight;
  return dtype === "F16" || dtype === "F32" ? dtype : "BF16";
}

/** Names of the stored weights that quantised ones take the place of. */
export function replacedWeights({ experts, storage }: MoeDescription): Set<string> {
  if (storage.kind === "fused") {
    return new Set(storage.blocks ? [storage.blocks.gateUp, storage.blocks.down] : storage.tensors);
  }
  return new Set(experts.flatMap((expert) => projections.map((p) => projectionOf(expert, p).weight.tensor)));
}

/**
 * The tensors of one layer's experts as they will be stored. A file holds them dtype by dtype: small parts, such as scales, wait
 * for their turn, and an expert whose turn comes again is made again, so that one is in memory at a time.
 */
export function quantisedTensors(
  form: LayerForm,
  moe: MoeDescription,
  make: (expert: number) => Promise<QuantisedExpert>,
): TensorSource[] {
  const fused = fusedProjections(moe);
  if (fused !== null) return blockTensors(moe, fused, make);
  const { parts, encode, known } = outputFormats[form.format];
  const scaleType = scaleTypeOf(moe);
  let last: { expert: number; made: Promise<QuantisedExpert> } | null = null;
  const expertOf = (expert: number) => {
    if (last?.expert !== expert) last = { expert, made: make(expert) };
    return last.made;
  };
  return moe.experts.flatMap((_, e) =>
    projections.flatMap((projection) => {
      const { module, size } = storedProjection(moe, e, projection);
      const waiting = new Map<string, Uint8Array>(Object.entries(known(size)));
      return parts(size, form.grid(e), scaleType).map(({ name, ...layout }) =>
        tensorFromBytes({ ...layout, name: `${module}.${name}` }, async () => {
          const ready = waiting.get(name);
          if (ready !== undefined) {
            waiting.delete(name);
            return ready;
          }
          const encoded = encode(size, (await expertOf(e))[projection], scaleType);
          const bytes = encoded[name]!;
          for (const [other, small] of Object.entries(encoded)) {
            if (other !== name && small.byteLength < bytes.byteLength) waiting.set(other, small);
          }
          return bytes;
        }),
      );
    }),
  );
}

/** The layer as it will be read back: experts whose matrices are those of the stage's file. */
export function quantisedLayer(
  checkpoint: Checkpoint,
  form: LayerForm,
  moe: MoeDescription,
  staged: ReadonlyMap<string, TensorEntry>,
): { checkpoint: Checkpoint; moe: MoeDescription } {
  const linear = (e: number, projection: Projection): LinearDescription => {
    const stored = storedProjection(moe, e, projection);
    return { bias: stored.bias, ...readStaged(form.format, form.grid(e), stored, staged) };
  };
  const fused = fusedProjections(moe);
  const separate = (_: unknown, e: number): ExpertWeights => ({
    gateUp: { kind: "separate", gateProj: linear(e, "gateProj"), upProj: linear(e, "upProj") },
    downProj: linear(e, "downProj"),
  });
  const experts = fused === null ? moe.experts.map(separate) : blockExperts(moe, fused);
  return {
    checkpoint: { ...checkpoint, tensors: new Map([...checkpoint.tensors, ...staged]) },
    moe: { ...moe, experts },
  };
}

/** Experts as they will be read once they are written so; nothing of them is stored yet. */
export function plannedExperts(form: LayerForm, moe: MoeDescription): ExpertWeights[] {
  const fused = fusedProjections(moe);
  if (fused !== null) return blockExperts(moe, fused);
  const scaleType = scaleTypeOf(moe);
  return moe.experts.map((_, e) => {
    const linear = (projection: Projection): LinearDescription => {
      const stored = storedProjection(moe, e, projection);
      const parts = outputFormats[form.format].parts(stored.size, form.grid(e), scaleType);
      const entries = parts.map((part): [string, TensorEntry] => {
        const name = `${stored.module}.${part.name}`;
        return [name, { ...part, name, shard: unwritten, byteOffset: 0, byteLength: 0 }];
      });
      return { bias: stored.bias, ...readStaged(form.format, form.grid(e), stored, new Map(entries)) };
    };
    const gateUp = { kind: "separate", gateProj: linear("gateProj"), upProj: linear("upProj") } as const;
    return { gateUp, downProj: linear("downProj") };
  });
}

const unwritten = { name: "not written yet", realPath: "", sizeBytes: 0, modifiedMs: 0, metadata: {} };

function readStaged(
  format: QuantisationPlan["format"],
  grid: StoredGrid,
  { module: prefix, size }: StoredProjection,
  staged: ReadonlyMap<string, TensorEntry>,
): Pick<LinearDescription, "weight" | "layout"> {
  const [outputs, inputs] = size;
  const tensors: StoredTensors = {
    has: (name) => staged.has(name),
    shapeOf: (name) => staged.get(name)?.shape ?? null,
    entry: (name) => {
      const entry = staged.get(name);
      if (entry === undefined) throw new RerouteError("internal", `${quote(name)} was not staged`);
      return entry;
    },
  };
  const scheme = outputFormats[format].scheme(grid);
  const module = { prefix, outputs, inputs, because: "the plan" };
  if (scheme.kind !== "scaled") return readPacked(tensors, scheme, module);
  const { name, dtype } = tensors.entry(`${prefix}.weight`, [], "the plan");
  const quantisation = readScales(tensors, scheme, name, size, "the plan");
  return { layout: "out-in", weight: { tensor: name, offset: 0, shape: size, dtype, quantisation } };
}
