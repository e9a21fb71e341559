import type { ModelDescription } from "../model/description";
import { moeLayers } from "../model/moeLayers";

/** Experts that are compiled, and run, as one graph: from (inclusive) to (exclusive). */
export interface ExpertGroup {
  from: number;
  to: number;
}

/**
 * onnxruntime takes time with the square of a graph's nodes to plan its memory: measured on one thread, a backward graph
 * of 32 experts compiles in 0.2 s and one of 256 in 8.6 s. Smaller groups would gain little more and be more sessions,
 * each with threads of its own.
 */
const mostExpertsPerGraph = 32;

/**
 * Sessions of one layer that take turns: one for each group of experts, combine, attention, a router's fit, and one to
 * spare.
 */
export function sessionsInTurn(description: ModelDescription, expertsPerGraph?: number): number {
  const groups = moeLayers(description).map(
    ({ moe: { numExperts } }) => expertGroups(numExperts, expertsPerGraph).length,
  );
  return Math.max(0, ...groups) + 4;
}

/** All experts of a layer in groups of about the same size. Depends on nothing but its arguments. */
export function expertGroups(numExperts: number, expertsPerGraph = mostExpertsPerGraph): ExpertGroup[] {
  const count = Math.ceil(numExperts / expertsPerGraph);
  const start = (group: number) => Math.round((group * numExperts) / count);
  return Array.from({ length: count }, (_, group) => ({ from: start(group), to: start(group + 1) }));
}
