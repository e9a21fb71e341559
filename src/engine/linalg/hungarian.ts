/**
 * The assignment of rows to columns with the smallest total cost, by shortest augmenting paths with potentials (Jonker and
 * Volgenant 1987; Crouse 2016), O(n^3).
 *
 * @param cost [n, n]
 * @returns column of each row
 * @throws Error for a cost that is NaN or infinite
 */
export function assignRows(cost: Float64Array, n: number): Int32Array {
  for (let i = 0; i < n * n; i++) {
    if (!Number.isFinite(cost[i]!))
      throw new Error(`the cost of row ${Math.floor(i / n)}, column ${i % n} is ${cost[i]!}`);
  }
  const rowPotential = new Float64Array(n);
  const columnPotential = new Float64Array(n);
  const rowOf = new Int32Array(n).fill(-1);
  const columnOf = new Int32Array(n).fill(-1);
  const distance = new Float64Array(n);
  const cameFrom = new Int32Array(n);
  const open = new Int32Array(n);
  for (let start = 0; start < n; start++) {
    distance.fill(Infinity);
    for (let j = 0; j < n; j++) open[j] = j;
    let numOpen = n;
    const closed: number[] = [];
    let row = start;
    let shortest = 0;
    let sink = -1;
    while (sink < 0) {
      let best = -1;
      const base = row * n;
      const offset = shortest - rowPotential[row]!;
      for (let o = 0; o < numOpen; o++) {
        const j = open[o]!;
        const length = offset + cost[base + j]! - columnPotential[j]!;
        if (length < distance[j]!) {
          distance[j] = length;
          cameFrom[j] = row;
        }
        const d = distance[j]!;
        // Among equals a free column ends the search; then the lower one.
        if (best < 0 || d < distance[open[best]!]! || (d === distance[open[best]!]! && better(j, open[best]!, rowOf)))
          best = o;
      }
      const column = open[best]!;
      shortest = distance[column]!;
      open[best] = open[--numOpen]!;
      closed.push(column);
      if (rowOf[column]! < 0) sink = column;
      else row = rowOf[column]!;
    }
    rowPotential[start]! += shortest;
    for (const j of closed) {
      if (j === sink) continue;
      const slack = shortest - distance[j]!;
      rowPotential[rowOf[j]!]! += slack;
      columnPotential[j]! -= slack;
    }
    for (let j = sink; ;) {
      const from = cameFrom[j]!;
      const next = columnOf[from]!;
      rowOf[j] = from;
      columnOf[from] = j;
      if (from === start) break;
      j = next;
    }
  }
  return columnOf;
}

function better(a: number, b: number, rowOf: Int32Array): boolean {
  const [freeA, freeB] = [rowOf[a]! < 0, rowOf[b]! < 0];
  return freeA === freeB ? a < b : freeA;
}
