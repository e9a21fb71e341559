import type { RoutingFidelityLayer } from "../../protocol/evaluation";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { FileHiddenStates, MemoryHiddenStates, StoredHiddenStates, type HiddenStates } from "../execution/hiddenStates";
import { leavesOf, type Leaves } from "../execution/leaves";
import { numLogits } from "../model/moeLayers";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { bytesOfStates, sizeOf } from "../execution/passState";
import type { ModelDescription } from "../model/description";
import { RoutingFidelity, type FidelitySums } from "../routing/fidelity";

interface LayerTrace {
  /** [tokens, router rows] */
  logits: HiddenStates;
  /** [tokens, k]: expert ids as the bits of 32-bit floats, so that they lie in the same stores. */
  selected: HiddenStates;
  /** Whether both lie in files that a later process can read. */
  isSaved: boolean;
}

/** Routing of some tokens of a layer. */
type RoutedRows = Pick<
  MoeObservation,
  "layer" | "firstToken" | "numRouterRows" | "numExpertsPerToken" | "routerLogits" | "selectedIds"
>;

/** Where the parts of a layer's trace are kept. */
type FileOf = (layer: number, part: "logits" | "selected") => string;

/**
 * Remembers a teacher's routing, token by token, to compare a student's with: 4 (experts + k) bytes a token and layer, in
 * memory or in scratch files.
 */
export class RouterTrace implements RoutingObserver {
  readonly readsRoutingOnly = true;
  readonly #layers = new Map<number, LayerTrace>();

  constructor(
    readonly numTokens: number,
    readonly directory: string,
    readonly inMemory: boolean,
  ) {}

  observe(observation: MoeObservation): void {
    this.add(observation);
  }

  add({ layer, firstToken, numRouterRows, numExpertsPerToken, routerLogits, selectedIds }: RoutedRows): void {
    let trace = this.#layers.get(layer);
    if (trace === undefined) {
      trace = { logits: this.#store(numRouterRows), selected: this.#store(numExpertsPerToken), isSaved: false };
      this.#layers.set(layer, trace);
    }
    trace.logits.write(firstToken, routerLogits);
    trace.selected.write(firstToken, new Float32Array(selectedIds.buffer, selectedIds.byteOffset, selectedIds.length));
  }

  /** Numbers of the layers seen so far. */
  layers(): number[] {
    return [...this.#layers.keys()];
  }

  /** The teacher's router rows of a layer; null for one that it does not route. */
  numRouterRows(layer: number): number | null {
    return this.#layers.get(layer)?.logits.width ?? null;
  }

  /** Writes the layers that have no files yet; all their tokens were seen. What lay in scratch files moves there. */
  async save(fileOf: FileOf): Promise<void> {
    for (const [layer, trace] of this.#layers) {
      if (trace.isSaved) continue;
      for (const part of ["logits", "selected"] as const) {
        const store = trace[part];
        await writeFileAtomically(fileOf(layer, part), bytesOfStates(store));
        if (this.inMemory) continue;
        trace[part] = new StoredHiddenStates(fileOf(layer, part), store.numTokens, store.width);
        store.close();
      }
      trace.isSaved = true;
    }
  }

  /** What makes these layers known again from their files; null where one is not there as it should be. */
  async open(
    layers: readonly number[],
    { layers: described }: ModelDescription,
    fileOf: FileOf,
  ): Promise<(() => void) | null> {
    const widths = new Map<number, { logits: number; selected: number }>();
    for (const layer of layers) {
      const moe = described.find(({ index }) => index === layer)?.feedForward;
      if (moe?.kind !== "moe") return null;
      const width = { logits: numLogits(moe), selected: moe.numExpertsPerToken };
      for (const part of ["logits", "selected"] as const)
        if ((await sizeOf(fileOf(layer, part))) !== this.numTokens * width[part] * 4) return null;
      widths.set(layer, width);
    }
    return () => {
      for (const [layer, width] of widths) {
        const stored = (part: "logits" | "selected") =>
          new StoredHiddenStates(fileOf(layer, part), this.numTokens, width[part]);
        this.#layers.set(layer, { logits: stored("logits"), selected: stored("selected"), isSaved: true });
      }
    };
  }

  /** An observer for the student, which compares every chunk with the teacher's routing of the same tokens. */
  compareWith(
    mappings: ReadonlyMap<number, number[][]>,
    valid: Uint8Array | undefined,
    sequenceLength: number,
  ): RoutingComparisonObserver {
    return new RoutingComparisonObserver(this, mappings, valid, leavesOf(sequenceLength));
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

export class RoutingComparisonObserver implements RoutingObserver {
  readonly readsRoutingOnly = true;
  readonly #layers = new Map<number, RoutingFidelity>();

  constructor(
    readonly teacher: RouterTrace,
    readonly mappings: ReadonlyMap<number, number[][]>,
    readonly valid: Uint8Array | undefined,
    readonly leaves: Leaves,
  ) {}

  observe({ layer, firstToken, numTokens, numExpertsPerToken, routerLogits, selectedIds }: MoeObservation): void {
    const teacher = this.teacher.read(layer, firstToken, numTokens);
    const mapping = this.mappings.get(layer);
    if (teacher === null || mapping === undefined) return;
    const fidelity = this.#layers.get(layer) ?? new RoutingFidelity(layer, mapping, this.leaves);
    this.#layers.set(layer, fidelity);
    const pair = {
      numTokens,
      teacherLogits: teacher.logits,
      studentLogits: routerLogits,
      teacherSelected: teacher.selected,
      studentSelected: selectedIds,
      teacherTopK: teacher.k,
      studentTopK: numExpertsPerToken,
      ...(this.valid === undefined ? {} : { valid: this.valid.subarray(firstToken, firstToken + numTokens) }),
    };
    fidelity.add(pair, firstToken);
  }

  /** Whether a layer's routing can be compared: both models route it. */
  compares(layer: number): boolean {
    return this.mappings.has(layer) && this.teacher.numRouterRows(layer) !== null;
  }

  sums(): FidelitySums[] {
    return [...this.#layers.values()].map((layer) => layer.sums());
  }

  /** Whether kept sums are those of this pair of models. */
  fits({ layer, klByExpert }: FidelitySums): boolean {
    return this.compares(layer) && klByExpert?.length === this.teacher.numRouterRows(layer);
  }

  /** Goes on from kept sums. */
  restore(sums: readonly FidelitySums[]): void {
    for (const kept of sums)
      this.#layers.set(kept.layer, new RoutingFidelity(kept.layer, this.mappings.get(kept.layer)!, this.leaves, kept));
  }

  results(): RoutingFidelityLayer[] {
    return [...this.#layers.values()].sort((a, b) => a.layer - b.layer).map((layer) => layer.result());
  }
}
