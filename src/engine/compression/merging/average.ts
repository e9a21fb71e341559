import type { ExpertMatrices } from "../layer/expertMatrices";

const fields = ["gateProj", "upProj", "downProj", "gateBias", "upBias", "downBias"] as const;

/** Sum of weight * expert, in float64, one expert in memory at a time. */
export class ExpertAverage {
  readonly #sums = new Map<(typeof fields)[number], Float64Array>();
  #shape: Pick<ExpertMatrices, "intermediateSize" | "hiddenSize"> | null = null;

  add(expert: ExpertMatrices, weight: number): void {
    this.#shape ??= expert;
    for (const field of fields) {
      const values = expert[field];
      if (values === null) continue;
      let sum = this.#sums.get(field);
      if (sum === undefined) this.#sums.set(field, (sum = new Float64Array(values.length)));
      for (let i = 0; i < values.length; i++) sum[i]! += weight * values[i]!;
    }
  }

  result(): ExpertMatrices {
    const of = (field: (typeof fields)[number]) => {
      const sum = this.#sums.get(field);
      return sum === undefined ? null : Float32Array.from(sum);
    };
    const { intermediateSize, hiddenSize } = this.#shape!;
    return {
      intermediateSize,
      hiddenSize,
      gateProj: of("gateProj")!,
      upProj: of("upProj")!,
      downProj: of("downProj")!,
      gateBias: of("gateBias"),
      upBias: of("upBias"),
      downBias: of("downBias"),
    };
  }
}
