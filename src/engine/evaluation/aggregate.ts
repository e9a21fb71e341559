import { textUnits, type TokenSequences } from "../data/sequences";

/** A value of every position, and which positions count. */
export interface RowValues {
  rows: Float32Array;
  isTarget: Uint8Array;
}

/** Sums over each sequence's target positions, their number, and the units of text that uncertainty is over. */
export function perSequence({ rows, isTarget }: RowValues, sequences: TokenSequences) {
  const { numSequences, sequenceLength } = sequences;
  const sums = new Array<number>(numSequences).fill(0);
  const tokens = new Array<number>(numSequences).fill(0);
  for (let i = 0; i < rows.length; i++) {
    if (isTarget[i] === 0) continue;
    const sequence = Math.floor(i / sequenceLength);
    sums[sequence]! += rows[i]!;
    tokens[sequence]!++;
  }
  return { sums, tokens, units: textUnits(sequences) };
}

/** Means by the domain of the position that predicts. */
export function perDomain(nll: RowValues, kl: RowValues | null, { domainIds, domainNames }: TokenSequences) {
  const totals = domainNames.map(() => ({ tokens: 0, nll: 0, kl: 0 }));
  for (let i = 0; i < nll.rows.length; i++) {
    if (nll.isTarget[i] === 0) continue;
    const total = totals[domainIds[i]!];
    if (total === undefined) continue;
    total.tokens++;
    total.nll += nll.rows[i]!;
    total.kl += kl?.rows[i] ?? 0;
  }
  const entries = domainNames
    .map((name, domain) => [name, totals[domain]!] as const)
    .filter(([, { tokens }]) => tokens > 0);
  return Object.fromEntries(
    entries.map(([name, total]) => [
      name,
      {
        tokens: total.tokens,
        nllPerToken: total.nll / total.tokens,
        klToTeacher: kl === null ? null : total.kl / total.tokens,
      },
    ]),
  );
}
