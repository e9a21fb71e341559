import type { ModelDescription } from "../model/description";
import type { TrainableWeight } from "./scope";

/**
 * Names of the tensors that a calibration may change, exact and short: numbers that differ are gathered,
 * "model.layers.{0-3}.mlp.experts.{0,2,5-7}.down_proj.weight"; of a fused tensor of which only some experts change, they are
 * named behind it, "model.layers.0.mlp.experts.down_proj[2,5]".
 */
export function trainedNames(weights: readonly TrainableWeight[], description: ModelDescription): string[] {
  const numExperts = new Map(
    description.layers.map(({ index, feedForward }) => [
      index,
      feedForward.kind === "moe" ? feedForward.experts.length : 0,
    ]),
  );
  const experts = new Map<string, Set<number>>();
  const layers = new Map<string, number>();
  for (const { view, layer, expert } of weights) {
    const known = experts.get(view.tensor) ?? new Set();
    experts.set(view.tensor, expert === null ? known : known.add(expert));
    if (layer !== null) layers.set(view.tensor, layer);
  }
  const names = [...experts].map(([tensor, numbers]) => {
    const isFused = numbers.size > 0 && !/\.experts\.\d+\./.test(tensor);
    const isPart = isFused && numbers.size < numExperts.get(layers.get(tensor)!)!;
    return isPart ? `${tensor}[${ranges([...numbers])}]` : tensor;
  });
  return gatherNumbers(names);
}

/** Replaces, from the last one to the first, each number in which otherwise equal names differ by all of its values. */
export function gatherNumbers(names: readonly string[]): string[] {
  let split = names.map((name) => name.split("."));
  const positions = split.reduce((most, parts) => Math.max(most, parts.length), 0);
  for (let position = positions - 1; position >= 0; position--) {
    const groups = new Map<string, { parts: string[]; numbers: number[] }>();
    for (const parts of split) {
      const isNumber = /^\d+$/.test(parts[position] ?? "");
      const key = isNumber ? parts.with(position, "#").join(".") : parts.join(".");
      const group = groups.get(key) ?? { parts, numbers: [] };
      groups.set(key, group);
      if (isNumber) group.numbers.push(Number(parts[position]));
    }
    split = [...groups.values()].map(({ parts, numbers }) =>
      numbers.length > 1 ? parts.with(position, `{${ranges(numbers)}}`) : parts,
    );
  }
  return split.map((parts) => parts.join("."));
}

/** [0, 1, 2, 5] -> "0-2,5" */
function ranges(numbers: readonly number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length;) {
    let end = i;
    while (sorted[end + 1] === sorted[end]! + 1) end++;
    parts.push(end === i ? String(sorted[i]) : `${sorted[i]}-${sorted[end]}`);
    i = end + 1;
  }
  return parts.join(",");
}
