import type { Timed } from "./peerProcess";

/** Two ways to do the same work, done in turns. */
export interface Comparison {
  title: string;
  /** Of one turn. */
  tokens: number;
  flopsPerToken: number;
  own: (turn: number) => Promise<number>;
  peer: (turn: number) => Promise<Timed>;
  /** Relative difference that the two results may have. */
  tolerance: number;
}

/** Not counted: sessions compile, and executors of one thread each are opened and timed once. */
const warmUpTurns = 3;
/** Of the best rate of products of a comparison, what a quiet machine keeps in every turn. */
const quietShare = 0.75;

/** Runs A B, B A, A B, ... after turns of each that are not counted, and says rates and their ratios. */
export async function compareInTurns(
  comparison: Comparison,
  rounds: number,
  gemmRate: () => Promise<{ wall: number; cpu: number }>,
  print: (line: string) => void,
): Promise<void> {
  const { title, tokens, tolerance } = comparison;
  const turns: { own: Timed; peer: Timed }[] = [];
  const rates = [await gemmRate()];
  for (let turn = 0; turn < warmUpTurns + rounds; turn++) {
    const work = { own: () => timed(() => comparison.own(turn)), peer: () => comparison.peer(turn) };
    const names = turn % 2 === 0 ? (["own", "peer"] as const) : (["peer", "own"] as const);
    const done: Partial<Record<"own" | "peer", Timed>> = {};
    for (const name of names) done[name] = await work[name]();
    const both = done as { own: Timed; peer: Timed };
    const difference = Math.abs(both.own.value / both.peer.value - 1);
    if (!(difference <= tolerance))
      throw new Error(`${title}: Reroute finds ${both.own.value}, PyTorch ${both.peer.value}`);
    if (turn >= warmUpTurns) turns.push(both);
    rates.push(await gemmRate());
  }
  const [walls, cpus] = [rates.map(({ wall }) => wall), rates.map(({ cpu }) => cpu)];
  const gemm = { wall: median(walls), cpu: median(cpus) };
  print(
    `${title} (${tokens} tokens a turn, ${rounds} turns; f32 products ${spread(walls.map(giga), 0)} GFLOP/s, ` +
      `${spread(cpus.map(giga), 0)} a processor second)`,
  );
  // What keeps a core busy slows PyTorch, whose threads spin, several times more than Reroute.
  const slowest = Math.min(...walls.slice(warmUpTurns)) / Math.max(...walls);
  if (slowest < quietShare)
    print(`  products fell to ${slowest.toFixed(2)} of their best: the machine was not quiet, measure again`);
  for (const [name, side] of [
    ["Reroute", "own"],
    ["PyTorch", "peer"],
  ] as const) {
    const wall = turns.map((turn) => tokens / turn[side].seconds);
    const cpu = turns.map((turn) => tokens / turn[side].cpu);
    const share = (rate: number, of: number) => `${((100 * rate * comparison.flopsPerToken) / of).toFixed(0)} %`;
    print(
      `  ${name}  ${spread(wall, 0)} tokens/s, ${spread(cpu, 0)} a processor second; ` +
        `of the limit by count ${share(median(wall), gemm.wall)}, ${share(median(cpu), gemm.cpu)} by processor time`,
    );
  }
  const ratio = (key: "seconds" | "cpu") => turns.map(({ own, peer }) => peer[key] / own[key]);
  print(`  Reroute / PyTorch: ${spread(ratio("seconds"), 2)}, by processor time ${spread(ratio("cpu"), 2)}`);
}

/** Wall and processor time of all threads of this process. */
export async function timed(work: () => Promise<number>): Promise<Timed> {
  const began = performance.now();
  const used = process.cpuUsage();
  const value = await work();
  const { user, system } = process.cpuUsage(used);
  return { seconds: (performance.now() - began) / 1e3, cpu: (user + system) / 1e6, value };
}

/** Median, and the range. */
function spread(values: readonly number[], digits: number): string {
  const [low, middle, high] = [Math.min(...values), median(values), Math.max(...values)].map((v) => v.toFixed(digits));
  return `${middle} (${low} to ${high})`;
}

function giga(rate: number): number {
  return rate / 1e9;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
