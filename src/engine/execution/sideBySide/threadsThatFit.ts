import type { ModelDescription } from "../../model/description";
import { budgetOfThread } from "../../runtime/sideBySide/partThreads";
import { planExecution, portionsOf, sessionsMemory, tapedBytesPerToken } from "../memoryPlan";
import { workingSetBytes } from "../workingSet";

/** What each of several threads does, with an executor of its own. */
export interface ThreadWorkload {
  description: ModelDescription;
  sequenceLength: number;
  direction: "forward" | "backward";
  /** Of a part, at most. */
  sequences: number;
}

/** Node's part of a thread: its heap, and this program in it (measured: 30 to 45 MB). */
const threadBytes = 40e6;

/** Two kinds of threads may be there at once, those of passes and those of updates. */
const share = 0.5;

/**
 * Threads, at most so many as the run may use, that fit beside an executor that has all the budget, and the bytes that they hold. None
 * where the weights' f32 copies do not fit several times, nor where fewer than two fit. How many there are changes no result.
 */
export function threadsThatFit(
  work: ThreadWorkload,
  { threads, memoryBudgetBytes }: { threads: number; memoryBudgetBytes: number },
): { count: number; bytes: number } {
  const { description, sequenceLength, direction } = work;
  const none = { count: 0, bytes: 0 };
  if (threads < 2) return none;
  const plan = planExecution(description, sequenceLength, memoryBudgetBytes, direction);
  if (!plan.keepFloat32Weights) return none;
  const fixed = { description, sequenceLength, direction, trained: undefined };
  const own =
    plan.overheadBytes + workingSetBytes(fixed, plan) + sessionsMemory(plan, description, direction, sequenceLength);
  for (let count = threads; count >= 2; count--) {
    const each = bytesOfThread(work, budgetOfThread(count, memoryBudgetBytes));
    if (count * each <= share * (memoryBudgetBytes - own)) return { count, bytes: count * each };
  }
  return none;
}

/** Infinity where the weights' f32 copies do not fit: threads would be no faster. */
function bytesOfThread(
  { description, sequenceLength, direction, sequences }: ThreadWorkload,
  budgetBytes: number,
): number {
  const plan = planExecution(description, sequenceLength, budgetBytes, direction);
  if (!plan.keepFloat32Weights) return Infinity;
  const portions = portionsOf(plan, sequences, sequenceLength);
  const workingSet = workingSetBytes({ description, sequenceLength, direction, trained: undefined }, portions);
  const taped = direction === "backward" ? sequences * sequenceLength * tapedBytesPerToken(description) : 0;
  return threadBytes + sessionsMemory(plan, description, direction, sequenceLength) + workingSet + taped;
}
