import { RerouteError } from "../../../protocol/errors";

/** One thing that gets one of several widths: its loss and its bytes at each of them. */
export interface AllocationItem {
  losses: readonly number[];
  bytes: readonly number[];
}

/** Beyond so many units a budget is counted in coarser ones, rounded so that it is never exceeded. */
const mostUnits = 2 ** 17;

/**
 * One choice for each item, so that their losses sum to the least that fits the budget (multiple-choice knapsack). Exact by dynamic
 * programming over bytes in units of their greatest common divisor; halving the items (as Hirschberg does for alignments) keeps
 * one row of the table in memory instead of one an item. Of equal losses the fewest bytes.
 *
 * @throws RerouteError plan/invalid for a budget below the smallest choices
 */
export function allocate(items: readonly AllocationItem[], budgetBytes: number): number[] {
  const least = items.map(({ bytes }) => Math.min(...bytes));
  const smallest = least.reduce((sum, bytes) => sum + bytes, 0);
  if (smallest > budgetBytes) {
    throw new RerouteError(
      "plan/invalid",
      `The budget is ${Math.floor(budgetBytes)} bytes for all experts, and their smallest widths take ${smallest}; raise budget, or allow ` +
        "smaller widths",
    );
  }
  const extra = items.map(({ bytes }, i) => bytes.map((own) => own - least[i]!));
  const room = Math.min(
    budgetBytes - smallest,
    extra.reduce((sum, own) => sum + Math.max(...own), 0),
  );
  const divisor = extra.flat().reduce(commonDivisor, 0) || 1;
  const unit = Math.max(divisor, Math.ceil(room / mostUnits));
  const counted = items.map(({ losses }, i) => ({
    losses,
    units: extra[i]!.map((own) => Math.ceil(own / unit)),
  }));
  const chosen = new Array<number>(items.length).fill(0);
  halve(counted, 0, items.length, Math.floor(room / unit), chosen);
  return chosen;
}

interface Counted {
  losses: readonly number[];
  units: readonly number[];
}

function halve(items: readonly Counted[], from: number, to: number, room: number, chosen: number[]): void {
  if (to - from === 0) return;
  if (to - from === 1) {
    chosen[from] = bestWithin(items[from]!, room);
    return;
  }
  const middle = (from + to) >>> 1;
  const left = leastLosses(items, from, middle, room);
  const right = leastLosses(items, middle, to, room);
  let best = 0;
  for (let units = 1; units <= room; units++) {
    if (left[units]! + right[room - units]! < left[best]! + right[room - best]!) best = units;
  }
  halve(items, from, middle, best, chosen);
  halve(items, middle, to, room - best, chosen);
}

/** The least loss of some items within 0, 1, ..., room units. */
function leastLosses(items: readonly Counted[], from: number, to: number, room: number): Float64Array {
  let before = new Float64Array(room + 1);
  for (let i = from; i < to; i++) {
    const { losses, units } = items[i]!;
    const now = new Float64Array(room + 1).fill(Infinity);
    for (let choice = 0; choice < losses.length; choice++) {
      const [cost, loss] = [units[choice]!, losses[choice]!];
      for (let at = cost; at <= room; at++) {
        const total = before[at - cost]! + loss;
        if (total < now[at]!) now[at] = total;
      }
    }
    before = now;
  }
  return before;
}

function bestWithin({ losses, units }: Counted, room: number): number {
  let best = units.indexOf(Math.min(...units));
  for (let choice = 0; choice < losses.length; choice++) {
    if (units[choice]! > room) continue;
    const [gain, saved] = [losses[best]! - losses[choice]!, units[best]! - units[choice]!];
    if (gain > 0 || (gain === 0 && saved > 0)) best = choice;
  }
  return best;
}

function commonDivisor(a: number, b: number): number {
  return b === 0 ? a : commonDivisor(b, a % b);
}
