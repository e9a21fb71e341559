import type { HiddenStates } from "../../execution/hiddenStates";
import type { LayerDescription, MoeDescription } from "../../model/description";

/** One of the teacher's sparse layers, and the student's beside it. */
export interface MatchedLayer {
  layer: LayerDescription;
  moe: MoeDescription;
  /** null where the student's is dense. */
  student: MoeDescription | null;
  /** Student expert that each of the teacher's belongs to; null unless experts are matched. */
  expertOf: Int32Array | null;
}

/** What the teacher did in one layer with a batch of tokens. */
export interface LayerTargets {
  /** [tokens, E_S] on the student's axis; null unless routers are matched. */
  probabilities: HiddenStates | null;
  /** [tokens, H] what the experts read, with what the routing chose, and the energy of what they give. */
  experts: { input: HiddenStates; ids: Int32Array; weights: Float32Array; energy: number } | null;
  /** [tokens, H] what the feed-forward half adds to the residual stream, and its energy. */
  added: { rows: HiddenStates; energy: number } | null;
}
