import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import { FileHiddenStates, MemoryHiddenStates, type HiddenStates } from "../execution/hiddenStates";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { RoutingFidelity } from "../routing/fidelity";

interface LayerTrace {
  /** [tokens, experts] */
  logits: HiddenStates;
  /** [tokens, k]: expert ids as the bits of 32-bit floats, so that they lie in the same stores. */
  selected: HiddenStates;
}

/**
 * Remembers a teacher's routing, token by token, to compare a student's with: 4 (experts + k) bytes a token and layer, in
 * memory or in scratch files.
 */
export class RouterTrace implements RoutingObserver {
  readonly #layers = new Map<number, LayerTrace>();

  constructor(
    readonly numTokens: number,
    readonly directory: string,
    readonly inMemory: boolean,
  ) {}

  observe({ layer, firstToken, numExperts, numExpertsPerToken, routerLogits, selectedIds }: MoeObservation): void {
    let trace = this.#layers.get(layer);
    if (trace === undefined) {
      trace = { logits: this.#store(numExperts), selected: this.#store(numExpertsPerToken) };
      this.#layers.set(layer, trace);
    }
    trace.logits.write(firstToken, routerLogits);
    trace.selected.write(firstToken, new Float32Array(selectedIds.buffer, selectedIds.byteOffset, selectedIds.length));
  }

  /** An observer for the student, which compares every chunk with the teacher's routing of the same tokens. */
  compareWith(mappings: ReadonlyMap<number, number[][]>, valid: Uint8Array | undefined): RoutingComparisonObserver {
    return new RoutingComparisonObserver(this, mappings, valid);
  }

  /** Logits and selection of tokens [from, from + count) of a layer; null for a layer that the teacher does not route. */
  read(layer: number, from: number, count: number) {
    const trace = this.#layers.get(layer);
    if (trace === undefined) return null;
    const bits = trace.selected.read(from, from + count);
    return {
      logits: trace.logits.read(from, from + count),
      selected: new Int32Array(bits.buffer, bits.byteOffset, bits.length),
      k: trace.selected.width,
    };
  }

  close(): void {
    for (const { logits, selected } of this.#layers.values()) {
      logits.close();
      selected.close();
    }
    this.#layers.clear();
  }

  #store(width: number): HiddenStates {
    return this.inMemory
      ? new MemoryHiddenStates(this.numTokens, width)
      : new FileHiddenStates(this.numTokens, width, this.directory);
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
