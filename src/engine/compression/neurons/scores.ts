import { chunksOfExpert, type RoutedTokens } from "../layer/expertInputs";
import type { ExpertMatrices } from "../layer/expertMatrices";
import type { CollectedLayer } from "../../execution/collectLayers";
import type { LayerEngine } from "../layer/layerEngine";

/**
 * CAMERA's score of each intermediate unit, ||down_j||^2 ((1 - alpha) sum_t (g_t h_tj)^2 + alpha max_t (g_t h_tj)^2) over the
 * tokens routed to the expert; alpha 0 is the energy that the unit adds to the layer's output.
 */
export async function activationScores(
  engine: LayerEngine,
  collected: CollectedLayer,
  routed: RoutedTokens,
  expert: ExpertMatrices,
  alpha: number,
): Promise<Float64Array> {
  const I = expert.intermediateSize;
  const [sums, maxima] = [new Float64Array(I), new Float64Array(I)];
  for await (const { intermediates, weights } of chunksOfExpert(engine, collected, routed, expert)) {
    for (let t = 0, at = 0; at < intermediates.length; t++, at += I) {
      const gate = weights[t]! ** 2;
      for (let j = 0; j < I; j++) {
        const energy = gate * intermediates[at + j]! ** 2;
        sums[j]! += energy;
        if (energy > maxima[j]!) maxima[j] = energy;
      }
    }
  }
  const columns = columnNorms(expert);
  return sums.map((sum, j) => columns[j]! * ((1 - alpha) * sum + alpha * maxima[j]!));
}

/** ||gate_j|| ||up_j|| ||down_j|| of each unit. */
export function magnitudeScores(expert: ExpertMatrices): Float64Array {
  const { hiddenSize: H, gateProj, upProj } = expert;
  const rowNorm = (values: Float32Array, j: number) =>
    values.subarray(j * H, (j + 1) * H).reduce((sum, value) => sum + value * value, 0);
  return columnNorms(expert).map((column, j) => Math.sqrt(column * rowNorm(gateProj, j) * rowNorm(upProj, j)));
}

/** ||down_j||^2 of each unit. */
function columnNorms({ downProj, intermediateSize: I }: ExpertMatrices): Float64Array {
  const norms = new Float64Array(I);
  for (let i = 0; i < downProj.length; i++) norms[i % I]! += downProj[i]! ** 2;
  return norms;
}
