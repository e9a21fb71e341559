import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { checkRouterGroup } from "../compression/routers/routerPruning";
import { readView } from "../execution/parameters";
import { weightKey } from "../graph/blocks/weights";
import type { ModelDescription } from "../model/description";
import { moeLayers } from "../model/moeLayers";
import { decodeFloats, encodeFloats, type WritableFloat } from "../tensor/floatCodec";
import { roundedValues } from "../weights/roundIntegers";
import type { TrainableWeight } from "./scope";

/** A scale keeps at least this share of what it was: codes times a scale of zero or below would be other weights. */
const smallestShare = 1e-4;

/**
 * Scales that train while their codes stay (EfficientQAT's E2E-QP, arXiv 2407.11062): keeps them at a ten-thousandth of what
 * they were, at least.
 */
export class TrainedScales {
  private constructor(private readonly floors: ReadonlyMap<string, Float32Array>) {}

  static async open(checkpoint: Checkpoint, weights: readonly TrainableWeight[]): Promise<TrainedScales> {
    const floors = new Map<string, Float32Array>();
    for (const { key, view, isScale } of weights)
      if (isScale)
        floors.set(
          key,
          (await readView(checkpoint, view)).map((scale) => smallestShare * scale),
        );
    return new TrainedScales(floors);
  }

  get keys(): readonly string[] {
    return [...this.floors.keys()];
  }

  /** Raises what an update took below its floor, in place. */
  keepAboveFloors(parameters: ReadonlyMap<string, Float32Array>): void {
    for (const [key, floors] of this.floors) {
      const scales = parameters.get(key)!;
      for (let i = 0; i < scales.length; i++) if (scales[i]! < floors[i]!) scales[i] = floors[i]!;
    }
  }
}

/**
 * Routers that are rounded in the forward pass and train behind it (straight-through, Bengio et al., arXiv 1308.3432): the
 * model runs on s round(w / s), s from the row's or group's largest weight at every step, rounded to what it will be stored
 * in; the gradient goes to w unchanged.
 */
export class RoundedRouters {
  private constructor(
    private readonly routers: ReadonlyMap<
      string,
      { rows: number; columns: number; group: number; dtype: WritableFloat }
    >,
    private readonly bits: 4 | 6 | 8,
  ) {}

  /** Null where routers are not rounded. @throws RerouteError model/unsupported-option for a group that does not divide */
  static of(checkpoint: Checkpoint, description: ModelDescription, options: CalibrateOptions): RoundedRouters | null {
    const { routerBits, routerGroup = 0, routerDtype } = options;
    if (routerBits === undefined) return null;
    const routers = moeLayers(description).map(({ moe: { router } }) => {
      const { weight } = router;
      const [rows, columns] = weight.shape as [number, number];
      checkRouterGroup(routerGroup, columns);
      const stored = checkpoint.tensors.get(weight.tensor)!.dtype as WritableFloat;
      const dtype = routerDtype === "float32" ? "F32" : stored;
      return [weightKey(weight), { rows, columns, group: routerGroup || columns, dtype }] as const;
    });
    return new RoundedRouters(new Map(routers), routerBits);
  }

  /** What the model runs on and what is written: a new map in which routers are rounded copies. */
  rounded(masters: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> {
    return new Map(
      [...masters].map(([key, values]) => {
        const router = this.routers.get(key);
        if (router === undefined) return [key, values];
        const { rows, columns, group, dtype } = router;
        const grid = { bits: this.bits, group, scaleType: "F32" } as const;
        return [key, decodeFloats(encodeFloats(roundedValues(values, rows, columns, grid), dtype), dtype)];
      }),
    );
  }
}
