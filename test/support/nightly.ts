/** What the daily run leaves out: `npm run nightly` runs every row of every kind, and the long forms of faults and fuzz. */
export const isNightly = process.env["REROUTE_NIGHTLY"] !== undefined;

/** The first `count` of rows that take the same way through the code; all of them in the nightly run. */
export function daily<T>(count: number, rows: readonly T[]): readonly T[] {
  return isNightly ? rows : rows.slice(0, count);
}

/** Hostile files of a suite, of all its kinds together. */
export const fuzzCases = Number(process.env["REROUTE_FUZZ_CASES"] ?? (isNightly ? 20_000 : 2000));
