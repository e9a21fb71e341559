import type { Random } from "../../tensor/random";

/** How much each layer may get: a count of experts, of blocks of units, the place of a width among widths. */
export interface BudgetSpace {
  /** Of each layer, at least and at most. */
  least: readonly number[];
  most: readonly number[];
  /** What a layer costs with a count, growing with it; absent: the count. */
  cost?: (layer: number, count: number) => number;
  /** What all layers cost together, at most. */
  total: number;
}

export interface EvolutionRequest extends BudgetSpace {
  /** Counts to begin with, within the total. */
  start: readonly (readonly number[])[];
  population: number;
  generations: number;
  random: Random;
  /** Higher is better. Asked once for each candidate. */
  fitness: (counts: readonly number[]) => Promise<number>;
}

export interface Evolved {
  counts: readonly number[];
  fitness: number;
  /** Candidates that were measured. */
  measured: number;
}

/** Share of the population that stays and has children. */
const survivingShare = 0.25;
/** Most that one step moves, most steps of a child, and tries at a child that was not seen. */
const [mostMoved, mostSteps, tries] = [4, 3, 100];

/** Candidates that a search measures at most: the forecast counts passes of text by it. */
export function candidates(population: number, generations: number): number {
  return population + generations * (population - survivorsOf(population));
}

/**
 * Evolution of counts at a fixed total (EvoESAP, arXiv 2603.06003): of each generation the best candidates stay, and the rest are
 * children of them, in which one to three times some of a layer's count moves to another. Where counts cost different things, layers
 * then give until the total is met, and get what still fits. No candidate is measured twice; where a small space has no other left,
 * the search ends. The best of all is never worse than what it began with.
 */
export async function evolve(request: EvolutionRequest): Promise<Evolved> {
  const { population, generations, random } = request;
  const seen = new Set<string>();
  const found: { counts: readonly number[]; fitness: number }[] = [];
  const measure = async (counts: readonly number[]): Promise<boolean> => {
    const key = counts.join(" ");
    if (seen.has(key)) return false;
    seen.add(key);
    found.push({ counts, fitness: await request.fitness(counts) });
    return true;
  };
  const best = () => found.sort((a, b) => b.fitness - a.fitness).slice(0, survivorsOf(population));
  for (const counts of request.start) await measure(counts);
  const parents = () => (found.length < population ? found : best());
  for (let generation = 0; generation <= generations; generation++) {
    const children = generation === 0 ? population - found.length : population - survivorsOf(population);
    const from = [...parents()];
    for (let child = 0; child < children; child++) {
      const counts = childOf(from, request, random, seen);
      if (counts === null) break;
      await measure(counts);
    }
  }
  const { counts, fitness } = best()[0]!;
  return { counts, fitness, measured: found.length };
}

function survivorsOf(population: number): number {
  return Math.max(1, Math.round(population * survivingShare));
}

/** A child that was not measured yet, or null. */
function childOf(
  parents: readonly { counts: readonly number[] }[],
  space: BudgetSpace,
  random: Random,
  seen: ReadonlySet<string>,
): number[] | null {
  const { least, most } = space;
  for (let attempt = 0; attempt < tries; attempt++) {
    const counts = [...parents[random.below(parents.length)]!.counts];
    const steps = 1 + Math.min(random.below(mostSteps), random.below(mostSteps));
    for (let step = 0; step < steps; step++) {
      const [from, to] = [random.below(counts.length), random.below(counts.length)];
      const moved = Math.min(1 + random.below(mostMoved), counts[from]! - least[from]!, most[to]! - counts[to]!);
      if (from === to || moved <= 0) continue;
      counts[from]! -= moved;
      counts[to]! += moved;
    }
    fit(counts, space, random);
    if (!seen.has(counts.join(" "))) return counts;
  }
  return null;
}

/** Lowers layers until all cost the total at most, then raises them while something fits. */
function fit(counts: number[], { least, most, cost = (_, count) => count, total }: BudgetSpace, random: Random): void {
  const spent = () => counts.reduce((sum, count, layer) => sum + cost(layer, count), 0);
  const step = (layer: number) => cost(layer, counts[layer]! + 1) - cost(layer, counts[layer]!);
  const oneOf = (may: (layer: number) => boolean): number | null => {
    const layers = [...counts.keys()].filter(may);
    return layers.length === 0 ? null : layers[random.below(layers.length)]!;
  };
  for (let over = spent() > total; over; over = spent() > total) {
    const layer = oneOf((l) => counts[l]! > least[l]!);
    if (layer === null) return;
    counts[layer]!--;
  }
  for (;;) {
    const room = total - spent();
    const layer = oneOf((l) => counts[l]! < most[l]! && step(l) <= room);
    if (layer === null) return;
    counts[layer]!++;
  }
}
