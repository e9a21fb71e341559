import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { RoutingFidelity } from "../routing/fidelity";

interface LayerTrace {
  numExperts: number;
  k: number;
  /** Chunks in token order. */
  chunks: { firstToken: number; numTokens: number; logits: Float32Array; selected: Int32Array }[];
}

/** Remembers a teacher's routing, token by token, to compare a student's with: 4 (experts + k) bytes a token and layer. */
export class RouterTrace implements RoutingObserver {
  readonly #layers = new Map<number, LayerTrace>();

  observe({
    layer,
    firstToken,
    numTokens,
    numExperts,
    numExpertsPerToken,
    routerLogits,
    selectedIds,
  }: MoeObservation): void {
    const trace = this.#layers.get(layer) ?? { numExperts, k: numExpertsPerToken, chunks: [] };
    trace.chunks.push({ firstToken, numTokens, logits: routerLogits.slice(), selected: selectedIds.slice() });
    this.#layers.set(layer, trace);
  }

  /** An observer for the student, which compares every chunk with the teacher's routing of the same tokens. */
  compareWith(mappings: ReadonlyMap<number, number[][]>, valid: Uint8Array | undefined): RoutingComparisonObserver {
    return new RoutingComparisonObserver(this, mappings, valid);
  }

  /** Logits and selection of tokens [from, from + count) of a layer; null for a layer that the teacher does not route. */
  read(layer: number, from: number, count: number) {
    const trace = this.#layers.get(layer);
    if (trace === undefined) return null;
    const { numExperts, k } = trace;
    const logits = new Float32Array(count * numExperts);
    const selected = new Int32Array(count * k);
    for (const chunk of trace.chunks) {
      const first = Math.max(from, chunk.firstToken);
      const end = Math.min(from + count, chunk.firstToken + chunk.numTokens);
      if (first >= end) continue;
      const [source, target, rows] = [first - chunk.firstToken, first - from, end - first];
      logits.set(chunk.logits.subarray(source * numExperts, (source + rows) * numExperts), target * numExperts);
      selected.set(chunk.selected.subarray(source * k, (source + rows) * k), target * k);
    }
    return { logits, selected, k };
  }
}

class RoutingComparisonObserver implements RoutingObserver {
  readonly #layers = new Map<number, RoutingFidelity>();

  constructor(
    readonly teacher: RouterTrace,
    readonly mappings: ReadonlyMap<number, number[][]>,
    readonly valid: Uint8Array | undefined,
  ) {}

  observe({ layer, firstToken, numTokens, numExpertsPerToken, routerLogits, selectedIds }: MoeObservation): void {
    const teacher = this.teacher.read(layer, firstToken, numTokens);
    const mapping = this.mappings.get(layer);
    if (teacher === null || mapping === undefined) return;
    const fidelity = this.#layers.get(layer) ?? new RoutingFidelity(layer, mapping);
    this.#layers.set(layer, fidelity);
    fidelity.add({
      numTokens,
      teacherLogits: teacher.logits,
      studentLogits: routerLogits,
      teacherSelected: teacher.selected,
      studentSelected: selectedIds,
      teacherTopK: teacher.k,
      studentTopK: numExpertsPerToken,
      ...(this.valid === undefined ? {} : { valid: this.valid.subarray(firstToken, firstToken + numTokens) }),
    });
  }

  results(): RoutingFidelityLayer[] {
    return [...this.#layers.values()].sort((a, b) => a.layer - b.layer).map((layer) => layer.result());
  }
}
