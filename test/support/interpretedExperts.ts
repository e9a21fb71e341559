import { slotFeeds, type Assignment } from "../../src/engine/execution/assignment";
import type { BlockContext } from "../../src/engine/execution/block";
import {
  combineBackwardGraph,
  combineGraph,
  expertRowsBackwardGraph,
  expertRowsGraph,
  hasTail,
  routingGraph,
  tailBackwardGraph,
  type ExpertLayer,
} from "../../src/engine/execution/expertGraphs";
import type { ExpertGroup } from "../../src/engine/execution/expertGroups";
import type { MoeDescription } from "../../src/engine/model/description";
import type { Tensor } from "../../src/engine/runtime/session";
import { interpret } from "./interpreter";
import { ndArray, type NdArray } from "./ndArray";

type Values = Map<string, NdArray>;

/** The three steps of a layer's experts in double precision, in groups of at most so many experts. */
export class InterpretedExperts {
  readonly #groups: ExpertGroup[];

  constructor(
    readonly context: BlockContext,
    readonly layer: ExpertLayer,
    readonly moe: MoeDescription,
    readonly assignment: Assignment,
    groupSize: number,
  ) {
    this.#groups = Array.from({ length: Math.ceil(moe.numExperts / groupSize) }, (_, i) => ({
      from: i * groupSize,
      to: Math.min(moe.numExperts, (i + 1) * groupSize),
    }));
  }

  /** Inputs residual, feedForwardInput, routerLogits, selectedIds and weights; output hidden. */
  forward(inputs: ReadonlyMap<string, NdArray>): Values {
    const given = this.#routed(inputs).set("rows", this.rows(inputs).rows);
    return interpret(combineGraph(this.context, this.layer, this.moe, false), given);
  }

  /** The experts' weighted outputs [R, H] and their weights [R, 1]. */
  rows(inputs: ReadonlyMap<string, NdArray>): { rows: NdArray; rowWeights: NdArray } {
    const given = this.#routed(inputs);
    const parts = this.#groups.map((group) =>
      interpret(expertRowsGraph(this.context, this.moe, group), this.#ofGroup(given, group)),
    );
    return { rows: stacked(parts.map((outputs) => outputs.get("rows")!)), rowWeights: given.get("rowWeights")! };
  }

  /** Inputs of forward and dHidden; outputs dFeedForwardInput, dRouterLogits, dResidual where it differs, and the weights' gradients. */
  backward(inputs: ReadonlyMap<string, NdArray>): Values {
    const given = this.#routed(inputs);
    const { context } = this;
    let { layer, moe } = this;
    let ofTail: Values = new Map();
    if (hasTail(layer, moe)) {
      const withRows = new Map(given).set("rows", this.rows(inputs).rows);
      ofTail = interpret(tailBackwardGraph(context, layer, moe), withRows);
      given.set("dHidden", ofTail.get("dRouted")!);
      ofTail.delete("dRouted");
      layer = { index: layer.index, feedForwardMultiplier: 1, feedForwardOutputNorm: null };
      const { routedNorm: _, ...summed } = moe;
      moe = { ...summed, shared: null };
    }
    const outputs = this.#groups.map((group) =>
      interpret(expertRowsBackwardGraph(context, layer, moe, group, true), this.#ofGroup(given, group)),
    );
    for (const name of ["dRows", "dRowWeights"]) given.set(name, stacked(outputs.map((part) => part.get(name)!)));
    const last = interpret(combineBackwardGraph(context, layer, moe, true), given);
    const sums: Values = new Map(last);
    for (const [name, part] of [...ofTail, ...outputs.flatMap((values) => [...values])]) {
      if (!name.startsWith("gradient:") && !ofTail.has(name)) continue;
      const known = sums.get(name);
      const data = known === undefined ? part.data : part.data.map((value, i) => value + known.data[i]!);
      sums.set(name, { ...part, data });
    }
    return sums;
  }

  #routed(inputs: ReadonlyMap<string, NdArray>): Values {
    const given = new Map(inputs);
    for (const [name, tensor] of Object.entries(slotFeeds(this.assignment))) given.set(name, toNdArray(tensor));
    given.set("rowWeights", interpret(routingGraph(this.context, this.moe), given).get("rowWeights")!);
    return given;
  }

  #ofGroup(given: Values, group: ExpertGroup): Values {
    const part = new Map(given);
    const { firstRow, tokenOfRow } = this.assignment;
    const experts = Array.from({ length: group.to - group.from }, (_, i) => group.from + i);
    const tokens = tokenOfRow.slice(firstRow[group.from], firstRow[group.to]);
    part.set("tokenOfRow", ndArray([tokens.length], tokens));
    part.set(
      "splitSizes",
      ndArray(
        [experts.length],
        experts.map((e) => firstRow[e + 1]! - firstRow[e]!),
      ),
    );
    const [first, end] = [this.assignment.firstRow[group.from]!, this.assignment.firstRow[group.to]!];
    return part.set("rowWeights", ndArray([end - first, 1], given.get("rowWeights")!.data.slice(first, end)));
  }
}

export function toNdArray({ shape, data }: Tensor): NdArray {
  return ndArray(shape, Array.from<number | bigint, number>(data as ArrayLike<number>, Number));
}

function stacked(parts: readonly NdArray[]): NdArray {
  const rows = parts.reduce((sum, { shape }) => sum + shape[0]!, 0);
  return ndArray(
    [rows, parts[0]!.shape[1]!],
    parts.flatMap(({ data }) => Array.from(data)),
  );
}
