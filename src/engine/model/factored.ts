import { readObject, type Config } from "./config";
import type { FactoredForm, WeightView } from "./description";

/** What reading factors needs of a checkpoint's weights. */
type TensorViews = {
  has(name: string): boolean;
  shapeOf(name: string): readonly number[] | null;
  view(name: string, shape: readonly number[], because: string): WeightView;
};

/** Key of config.json that marks a checkpoint in Reroute's factored layout. */
export const factoredConfigKey = "reroute_factored";

/** `<block>.experts.3.gate_proj` -> `<block>.experts.shared.gate_proj`: where factors of all experts are. */
export function sharedPrefix(prefix: string): string {
  return prefix.replace(/\.experts\.\d+\./, ".experts.shared.");
}

/**
 * A projection in the factored layout (docs/factored-layout.md) under `<prefix>.`; null where its weight is stored whole.
 * Which factors there are says which form it is.
 * @throws RerouteError checkpoint/missing-tensor, checkpoint/shape-mismatch where factors do not fit together
 */
export function readFactored(
  weights: TensorViews,
  config: Config,
  prefix: string,
  [outputs, inputs]: [number, number],
  because: string,
): WeightView | null {
  if (!Object.hasOwn(config, factoredConfigKey) || weights.has(`${prefix}.weight`)) return null;
  const form = readForm(weights, config, prefix, outputs, inputs, because);
  if (form === null) return null;
  const own = form.kind === "tucker" ? form.mixture : form.left;
  return {
    tensor: own.tensor,
    offset: 0,
    shape: [outputs, inputs],
    dtype: own.dtype,
    quantisation: { kind: "factored", form },
  };
}

function readForm(
  weights: TensorViews,
  config: Config,
  prefix: string,
  outputs: number,
  inputs: number,
  because: string,
): FactoredForm | null {
  const shared = sharedPrefix(prefix);
  const view = (name: string, shape: number[]) => weights.view(name, shape, because);
  const size = (name: string, axis: number) => weights.shapeOf(name)?.[axis] ?? 0;
  if (weights.has(`${prefix}.right`)) {
    const rank = size(`${prefix}.left`, 1);
    return {
      kind: "low-rank",
      left: view(`${prefix}.left`, [outputs, rank]),
      right: view(`${prefix}.right`, [rank, inputs]),
      base: weights.has(`${shared}.base`) ? view(`${shared}.base`, [outputs, inputs]) : null,
    };
  }
  if (!weights.has(`${prefix}.mixture`)) return null;
  const parts = size(`${prefix}.mixture`, 0);
  const mixture = view(`${prefix}.mixture`, [parts]);
  if (weights.has(`${prefix}.left`)) {
    const rank = size(`${prefix}.left`, 1);
    const activation = readObject(config, factoredConfigKey)?.["activation"] === "tanh" ? "tanh" : "silu";
    const left = view(`${prefix}.left`, [outputs, rank]);
    return { kind: "shared-basis", left, mixture, bases: view(`${shared}.bases`, [parts, rank, inputs]), activation };
  }
  const [r2, r3] = [size(`${shared}.left`, 1), size(`${shared}.right`, 0)];
  return {
    kind: "tucker",
    mixture,
    left: view(`${shared}.left`, [outputs, r2]),
    core: view(`${shared}.core`, [parts, r2, r3]),
    right: view(`${shared}.right`, [r3, inputs]),
  };
}
