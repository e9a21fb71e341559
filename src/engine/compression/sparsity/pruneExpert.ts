import type { SparsityPattern } from "../../../protocol/plan";
import type { InputNorms } from "../layer/expertInputs";
import { projections, type ExpertMatrices, type Projection } from "../layer/expertMatrices";
import { maskByScore } from "./masks";

/** How the weights of one expert are chosen. */
export interface MaskChoice {
  keep: number;
  pattern: SparsityPattern;
  compare: "row" | "matrix";
  /** What its projections see; null: weights alone decide. */
  norms: InputNorms | null;
}

/** The expert with the weights of lowest score at zero; biases stay. The given arrays are left as they are. */
export function maskedExpert(expert: ExpertMatrices, { norms, ...choice }: MaskChoice): ExpertMatrices {
  const result = { ...expert };
  for (const projection of projections) {
    result[projection] = expert[projection].slice();
    const columns = columnsOf(expert, projection);
    maskByScore(result[projection], { ...choice, columns, norms: normsOf(norms, projection) });
  }
  return result;
}

export function columnsOf(
  { hiddenSize, intermediateSize }: Pick<ExpertMatrices, "hiddenSize" | "intermediateSize">,
  projection: Projection,
): number {
  return projection === "downProj" ? intermediateSize : hiddenSize;
}

export function normsOf(norms: InputNorms | null, projection: Projection): Float64Array | null {
  if (norms === null) return null;
  return projection === "downProj" ? norms.intermediate : norms.hidden;
}

/** Numbers of an expert's matrices, and how many of them are zero. */
export function countZeros(expert: ExpertMatrices): { zeros: number; numbers: number } {
  let [zeros, numbers] = [0, 0];
  for (const projection of projections) {
    const values = expert[projection];
    numbers += values.length;
    for (let i = 0; i < values.length; i++) if (values[i] === 0) zeros++;
  }
  return { zeros, numbers };
}
