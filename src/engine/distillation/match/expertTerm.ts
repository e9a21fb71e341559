/** What the teacher's experts give where it routes, gathered by the student's experts: R pairs of a token and a student expert. */
export interface ExpertTargets {
  /** [R], rows of student expert 0 first, tokens ascending inside one. */
  tokenOfRow: Int32Array;
  /** [E_S + 1] */
  firstRow: Int32Array;
  /** [R], the sum of the teacher's routing weights of the members that it selected. */
  weights: Float32Array;
  /** [R, H], the weighted mean of their outputs. */
  outputs: Float32Array;
}

/** What the teacher did with some tokens. */
export interface TeacherRows {
  /** [tokens, k] */
  selectedIds: Int32Array;
  routingWeights: Float32Array;
  /** Row of the selected expert's output of each (token, slot). */
  rowOfSlot: Int32Array;
  /** [tokens k, H], outputs with their routing weights. */
  rows: Float32Array;
}

/**
 * @param expertOf student expert that each teacher expert belongs to; -1: none
 * @param counts whether a token counts
 */
export function expertTargets(
  { selectedIds, routingWeights, rowOfSlot, rows }: TeacherRows,
  { k, width, experts }: { k: number; width: number; experts: number },
  expertOf: Int32Array,
  counts: (token: number) => boolean,
): ExpertTargets {
  const tokens = selectedIds.length / k;
  // A token reaches a student's expert once, by however many of its members.
  const reached: { token: number; expert: number; slots: number[] }[] = [];
  for (let token = 0; token < tokens; token++) {
    if (!counts(token)) continue;
    const slotsOf = new Map<number, number[]>();
    for (let slot = token * k; slot < (token + 1) * k; slot++) {
      const expert = expertOf[selectedIds[slot]!]!;
      if (expert < 0 || !(routingWeights[slot]! > 0)) continue;
      slotsOf.set(expert, [...(slotsOf.get(expert) ?? []), slot]);
    }
    for (const [expert, slots] of slotsOf) reached.push({ token, expert, slots });
  }
  reached.sort((a, b) => a.expert - b.expert || a.token - b.token);
  const firstRow = new Int32Array(experts + 1);
  for (const { expert } of reached) firstRow[expert + 1]!++;
  for (let e = 0; e < experts; e++) firstRow[e + 1]! += firstRow[e]!;
  const weights = new Float32Array(reached.length);
  const outputs = new Float32Array(reached.length * width);
  reached.forEach(({ slots }, row) => {
    const sum = slots.reduce((total, slot) => total + routingWeights[slot]!, 0);
    weights[row] = sum;
    for (const slot of slots)
      for (let i = 0; i < width; i++) outputs[row * width + i]! += rows[rowOfSlot[slot]! * width + i]! / sum;
  });
  return { tokenOfRow: Int32Array.from(reached, ({ token }) => token), firstRow, weights, outputs };
}

/** Sum over rows of w |y|^2: what the error is taken relative to. */
export function targetEnergy({ weights, outputs }: ExpertTargets): number {
  return weightedSquares(weights, outputs);
}

/**
 * The sum over rows of share * w |f - y|^2, and its gradient in f.
 * @param outputs f, [R, H], what the student's experts give; overwritten by the gradient
 */
export function expertTerm(targets: ExpertTargets, outputs: Float32Array, share: number): number {
  for (let i = 0; i < outputs.length; i++) outputs[i]! -= targets.outputs[i]!;
  const loss = share * weightedSquares(targets.weights, outputs);
  const width = outputs.length / targets.weights.length;
  targets.weights.forEach((weight, row) => {
    for (let i = row * width; i < (row + 1) * width; i++) outputs[i]! *= 2 * share * weight;
  });
  return loss;
}

function weightedSquares(weights: Float32Array, rows: Float32Array): number {
  const width = rows.length / weights.length;
  let total = 0;
  weights.forEach((weight, row) => {
    let sum = 0;
    for (let i = row * width; i < (row + 1) * width; i++) sum += rows[i]! ** 2;
    total += weight * sum;
  });
  return total;
}
