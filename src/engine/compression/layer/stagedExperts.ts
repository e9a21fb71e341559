import type { Checkpoint, TensorEntry } from "../../checkpoint/checkpoint";
import type { TensorSource } from "../../checkpoint/tensorSource";
import { tensorFromBytes } from "../../checkpoint/tensorSource";
import { weightKey } from "../../graph/blocks/weights";
import type { ExpertWeights, MoeDescription, WeightView } from "../../model/description";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import { expertViews, storedValues, type ExpertMatrices } from "./expertMatrices";

/** One expert of a compressed layer. */
export interface OutputExpert {
  /** Original expert whose stored layout it has, and whose bytes where nothing was staged. */
  source: number;
  /** Position under which the stage holds new weights for it; null where its stored bytes stay. */
  stagedAs: number | null;
}

/** How a layer's experts and router rows come out. */
export interface LayerOutcome {
  experts: OutputExpert[];
  /** Router rows that stay, ascending; null: all. */
  routerRows: number[] | null;
  /** Expert of each router row where rows outnumber experts. */
  logicalToPhysical: number[] | null;
}

/** Every expert and router row in its place; `isNew`: those that the stage holds new weights for, under their own number. */
export function inPlace({ experts }: MoeDescription, isNew: (expert: number) => boolean = () => false): LayerOutcome {
  return {
    experts: experts.map((_, e) => ({ source: e, stagedAs: isNew(e) ? e : null })),
    routerRows: null,
    logicalToPhysical: null,
  };
}

/** Name of a staged tensor: the expert's new position, and the view of the original expert whose place it takes. */
export function stagedName(position: number, view: WeightView): string {
  return `${position}|${weightKey(view)}`;
}

/**
 * The staged tensors of one expert. `make` runs when the first of them is written and its result is dropped with the
 * last, so that one expert is in memory at a time.
 */
export function stagedExpert(
  position: number,
  template: ExpertWeights,
  make: () => Promise<ExpertMatrices>,
): TensorSource[] {
  const views = expertViews(template);
  let made: Promise<ExpertMatrices> | null = null;
  let left = views.length;
  return views.map((view) =>
    tensorFromBytes({ name: stagedName(position, view), dtype: view.dtype, shape: view.shape }, async () => {
      made ??= make();
      const matrices = await made;
      left -= 1;
      if (left === 0) made = null;
      const { values } = storedValues(template, matrices).find((stored) => weightKey(stored.view) === weightKey(view))!;
      return encodeFloats(values(), view.dtype as WritableFloat);
    }),
  );
}

/** The layer as it will be read back: a description whose staged experts point at the stage's file. */
export function stagedLayer(
  checkpoint: Checkpoint,
  moe: MoeDescription,
  outcome: LayerOutcome,
  staged: ReadonlyMap<string, TensorEntry>,
): { checkpoint: Checkpoint; moe: MoeDescription } {
  const experts = outcome.experts.map(({ source, stagedAs }) => {
    const expert = moe.experts[source]!;
    if (stagedAs === null) return expert;
    return withViews(expert, (view) => ({ ...view, tensor: stagedName(stagedAs, view), offset: 0 }));
  });
  return {
    checkpoint: { ...checkpoint, tensors: new Map([...checkpoint.tensors, ...staged]) },
    moe: { ...moe, experts, numExperts: experts.length, logicalToPhysical: outcome.logicalToPhysical },
  };
}

function withViews(expert: ExpertWeights, change: (view: WeightView) => WeightView): ExpertWeights {
  const linear = <T extends { weight: WeightView; bias: WeightView | null }>(l: T): T => ({
    ...l,
    weight: change(l.weight),
    bias: l.bias && change(l.bias),
  });
  const { gateUp, downProj } = expert;
  return {
    gateUp:
      gateUp.kind === "separate"
        ? { kind: "separate", gateProj: linear(gateUp.gateProj), upProj: linear(gateUp.upProj) }
        : { ...gateUp, projection: linear(gateUp.projection) },
    downProj: linear(downProj),
  };
}
