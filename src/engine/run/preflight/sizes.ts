import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import type { TensorSource } from "../../checkpoint/tensorSource";
import { factoredProjections } from "../../compression/editing/factoredSize";
import { plannedRanks } from "../../compression/editing/editingPlan";
import { projectionOf } from "../../compression/editing/factoredTensors";
import { compressedTensors, type CompressedLayer } from "../../compression/layer/compressedTensors";
import { outcomeOf } from "../../compression/merging/applyMerging";
import { withoutGroupLimits } from "../../compression/plan/groupLimits";
import { keptCount, groupsOf } from "../../compression/plan/keptCount";
import { moeLayers } from "../../compression/plan/moeLayers";
import { selectKept } from "../../compression/plan/selectKept";
import { replacesByConstants } from "../../compression/pruning/constants";
import { pruneTensors } from "../../compression/pruning/pruneTensors";
import type { CompressionPlan, EditingPlan, MergingPlan, PruningPlan } from "../../../protocol/plan";
import { paradigmOf, type CompressOptions } from "../../../protocol/recipe";
import { byteLengthOf, elementCount } from "../../tensor/dtype";
import type { OpenModel } from "../work";

export interface CheckpointSize {
  parameters: number;
  bytes: number;
}

type Model = Omit<OpenModel, "fingerprint">;

/** Stored numbers and bytes of a checkpoint's tensors. */
export function checkpointSize({ tensors }: Checkpoint): CheckpointSize {
  return sizeOf([...tensors.values()]);
}

/**
 * Size of the checkpoint that a method would write, before it has planned anything. Exact where the ratio alone decides
 * it, which is everywhere but TD-MoE's factored output: there it is the budget, which the ranks meet to within one.
 * @throws RerouteError `plan/invalid` for an impossible `keep`
 */
export function compressedSize(model: Model, compress: CompressOptions): CheckpointSize {
  const { method, keep, options } = compress;
  switch (paradigmOf(method)) {
    case "pruning": {
      const layers = keptAnyhow(model, compress);
      const replaceByConstant = method === "mone" ? { replaceByConstant: true as const } : {};
      return plannedSize(model, {
        ...{ schemaVersion: 1, paradigm: "pruning", method },
        layers: Object.fromEntries(
          Object.entries(layers).map(([layer, kept]) => [layer, { kept, ...replaceByConstant }]),
        ),
      });
    }
    case "merging": {
      const router = (options["router"] ?? "fold") as MergingPlan["router"];
      const groups = (kept: number[], numExperts: number) => {
        const others = Array.from({ length: numExperts }, (_, e) => e).filter((e) => !kept.includes(e));
        return kept.map((dominant, i) => {
          const members = i === 0 ? [dominant, ...others].sort((a, b) => a - b) : [dominant];
          return { members, weights: members.map(() => 1 / members.length), dominant };
        });
      };
      const kept = keptAnyhow(model, compress);
      const layers = moeLayers(model.description).map(({ layer, moe }) => [
        String(layer),
        { groups: groups(kept[String(layer)]!, moe.numExperts) },
      ]);
      return plannedSize(model, {
        ...{ schemaVersion: 1, paradigm: "merging", method, alignment: "none", router },
        layers: Object.fromEntries(layers) as MergingPlan["layers"],
      });
    }
    case "editing": {
      const output = options["output"] === "factored" ? "factored" : "dense";
      const ranks = output === "dense" ? {} : plannedRanks(model.description, method, keep, options);
      return plannedSize(model, {
        ...{ schemaVersion: 1, paradigm: "editing", method, output },
        layers: Object.fromEntries(Object.entries(ranks).map(([layer, of]) => [layer, { ranks: of }])),
      });
    }
  }
}

/** Size of the checkpoint that a plan gives. Exact: all experts of a layer have the same shapes. */
export function plannedSize(model: Model, plan: CompressionPlan): CheckpointSize {
  switch (plan.paradigm) {
    case "pruning":
      if (replacesByConstants(plan)) return sizeWithConstants(model, plan);
      return sizeOf(pruneTensors(model.checkpoint, model.family, model.description, plan));
    case "merging":
      return mergedSize(model, plan);
    case "editing":
      return editedSize(model, plan);
  }
}

/** Ids of as many experts as stay, whichever: what is scored does not change the size. */
function keptAnyhow({ description }: Model, { keep, groupLimits }: CompressOptions): Record<string, number[]> {
  const layers = moeLayers(description).map(({ layer, moe: limited }) => {
    const moe = groupLimits === "drop" ? withoutGroupLimits(limited) : limited;
    const count = keptCount(keep, layer, moe);
    const scores = new Array<null>(moe.numExperts).fill(null);
    const kept = selectKept({ scores, keepEnd: "highest", count, groups: groupsOf(moe), protectedExperts: new Set() });
    return [String(layer), kept] as const;
  });
  return Object.fromEntries(layers);
}

/** The tensors as they will be written, with stored experts in place of merged ones, which have the same shapes. */
function mergedSize({ checkpoint, family, description }: Model, plan: MergingPlan): CheckpointSize {
  const layers = moeLayers(description).map(({ layer, moe }): [number, CompressedLayer] => {
    const outcome = outcomeOf(plan, plan.layers[String(layer)]!.groups, moe);
    const experts = outcome.experts.map(({ source }) => ({ source, stagedAs: null }));
    return [layer, { outcome: { ...outcome, experts }, staged: new Map() }];
  });
  return sizeOf(compressedTensors(checkpoint, family, description, new Map(layers)));
}

/** Each expert that leaves becomes one vector. */
function sizeWithConstants({ checkpoint, description }: Model, plan: PruningPlan): CheckpointSize {
  const vectors: TensorEntry["shape"][] = [];
  const leaving = new Set<string>();
  for (const { layer, moe } of moeLayers(description)) {
    const { kept } = plan.layers[String(layer)]!;
    for (let e = 0; e < moe.numExperts; e++) {
      if (kept.includes(e) || moe.storage.kind !== "per-expert") continue;
      leaving.add(`${moe.storage.prefix}${e}.`);
      vectors.push([description.hiddenSize]);
    }
  }
  const entries = [...checkpoint.tensors.values()];
  const isLeaving = (name: string) => leaving.has(name.slice(0, name.lastIndexOf(".", name.lastIndexOf(".") - 1) + 1));
  const { dtype } = entries.find(({ name }) => isLeaving(name)) ?? { dtype: "BF16" as const };
  return sizeOf([...entries.filter(({ name }) => !isLeaving(name)), ...vectors.map((shape) => ({ dtype, shape }))]);
}

/** Dense output has the size it had; factored output has factors in place of whole matrices. */
function editedSize({ checkpoint, description }: Model, plan: EditingPlan): CheckpointSize {
  const size = checkpointSize(checkpoint);
  const layers = new Map(moeLayers(description).map(({ layer, moe }) => [layer, moe]));
  for (const { layer, projection, parameters } of factoredProjections(plan, description)) {
    const { experts } = layers.get(layer)!;
    const { shape, dtype } = projectionOf(experts[0]!, projection).weight;
    const whole = experts.length * elementCount(shape);
    size.parameters += parameters - whole;
    size.bytes += byteLengthOf(dtype, [parameters]) - byteLengthOf(dtype, [whole]);
  }
  return size;
}

function sizeOf(tensors: readonly Pick<TensorSource, "dtype" | "shape">[]): CheckpointSize {
  return {
    parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: tensors.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, shape), 0),
  };
}
