/** Of a budget for all: the teacher's own routing, the number at hand and a student are open at once. */
export function probeBudgetOfEach(memoryBudgetBytes: number, hasStudent: boolean): number {
  return Math.floor(memoryBudgetBytes / (hasStudent ? 3 : 2));
}
