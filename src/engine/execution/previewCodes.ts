import type { Graph } from "../graph/graph";
import { weightKey } from "../graph/blocks/weights";
import type { MoeDescription } from "../model/description";
import { int8Linears } from "../model/previewProducts";
import type { Tensor } from "../runtime/session";
import { Block, type BlockContext } from "./block";
import type { ExpertGroup } from "./expertGroups";
import type { SessionCache } from "./sessionCache";

/**
 * Codes and scales of a layer's experts for products in integers: made once a pass, by the first chunk that goes through the
 * layer, and kept until another layer comes. Where weights are folded into graphs, graphs have them instead.
 */
export class PreviewCodes {
  #layer: number | string | null = null;
  readonly #byGroup = new Map<number, Record<string, Tensor>>();

  constructor(
    readonly context: BlockContext,
    readonly sessions: Pick<SessionCache, "get">,
  ) {}

  async feeds(layer: number | string, moe: MoeDescription, group: ExpertGroup): Promise<Record<string, Tensor>> {
    if (this.context.codesAreGiven !== true) return {};
    if (layer !== this.#layer) this.#byGroup.clear();
    this.#layer = layer;
    const known = this.#byGroup.get(group.from);
    if (known !== undefined) return known;
    const session = await this.sessions.get(`codes ${layer} ${group.from}`, () => codesGraph(this.context, moe, group));
    const made = await session.run({});
    this.#byGroup.set(group.from, made);
    return made;
  }
}

/** No inputs; outputs `codes:<key>` and `scales:<key>` of a group's experts. */
function codesGraph(context: BlockContext, moe: MoeDescription, group: ExpertGroup): Graph {
  const { builder, weights } = new Block({ ...context, codesAreGiven: false });
  const outputs = moe.experts
    .slice(group.from, group.to)
    .flatMap(int8Linears)
    .flatMap((linear) => {
      const { codes, scales } = weights.int8Of(linear);
      const key = weightKey(linear.weight);
      return [[`codes:${key}`, codes] as const, [`scales:${key}`, scales] as const];
    });
  return builder.build(Object.fromEntries(outputs));
}
