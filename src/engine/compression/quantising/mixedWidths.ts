import { RerouteError } from "../../../protocol/errors";
import type { QuantisationPlan } from "../../../protocol/plan";
import type { ModelDescription, MoeDescription } from "../../model/description";
import { moeLayers } from "../../model/moeLayers";
import { byteLengthOf } from "../../tensor/dtype";
import { dequantised, roundToNearest } from "../../weights/roundIntegers";
import type { Bits } from "../../weights/view";
import { MatrixProducts } from "../../linalg/products";
import { matrix } from "../../linalg/matrix";
import { projections, projectionShape, readExpert } from "../layer/expertMatrices";
import { LayerEngine } from "../layer/layerEngine";
import { collect, type MethodContext } from "../methodContext";
import { allocate, type AllocationItem } from "./allocation";
import { outputLoss } from "./gptq";
import { LayerHessians, type HessianWeights } from "./hessians";
import type { MixedOptions } from "./options";
import { outputFormats, type StoredGrid } from "./outputFormats";
import { scaleTypeOf } from "./quantisedTensors";
import { storedProjection } from "./storedProjection";

/** Loss of each expert [experts] at each width, by layer. */
export type WidthLosses = ReadonlyMap<number, Partial<Record<Bits, number[]>>>;

/** Widths that experts may get, ascending. @throws RerouteError arguments/invalid */
export function widthsOf({ widths }: Pick<MixedOptions, "widths">): Bits[] {
  const found = [...new Set(widths.split(",").map((text) => Number(text.trim())))].sort((a, b) => a - b);
  const isKnown = (bits: number): bits is Bits => [2, 3, 4, 8].includes(bits);
  if (found.length > 0 && found.every(isKnown)) return found;
  throw new RerouteError(
    "arguments/invalid",
    `widths is "${widths}", expected some of 2, 3, 4 and 8 with commas between`,
  );
}

/**
 * What each expert loses at each width, by rounding to nearest: with "sensitivity" the sum over its tokens of
 * w ||(W - W') x||^2, of all three matrices (w as Hessians count tokens); with "utilisation" its tokens times ||W - W'||^2.
 */
export async function widthLosses(
  context: MethodContext,
  options: MixedOptions & {
    sequences: number;
    hessian: HessianWeights;
    gramMix: number;
    group: number;
    symmetric: boolean;
  },
): Promise<WidthLosses> {
  const { checkpoint, runtime, description } = context;
  const widths = widthsOf(options);
  const found = new Map<number, Partial<Record<Bits, number[]>>>();
  const products = new MatrixProducts(runtime);
  try {
    await collect(context, options.sequences, async (collected) => {
      const { layer, moe } = collected;
      const engine = new LayerEngine(runtime, checkpoint, description.hiddenSize);
      const losses = Object.fromEntries(widths.map((bits) => [bits, new Array<number>(moe.numExperts).fill(0)]));
      try {
        const hessians = new LayerHessians(engine, collected, options.hessian, options.gramMix);
        for (const e of moe.experts.keys()) {
          const routed = hessians.routed(e);
          // Nothing is lost where no token comes by.
          if (routed === 0) continue;
          const expert = await readExpert(checkpoint, moe.experts[e]!, `expert ${e} of layer ${layer.index}`);
          const seen = options.allocate === "sensitivity" ? await hessians.of(e, expert) : null;
          for (const projection of projections) {
            const weights = matrix(...projectionShape(expert, projection), expert[projection]);
            const { rows, columns } = weights;
            for (const bits of widths) {
              const grid = {
                ...{ bits, group: options.group || columns, scaleType: scaleTypeOf(moe) },
                asymmetric: !options.symmetric,
              };
              const back = dequantised(roundToNearest(weights.data, rows, columns, grid));
              losses[bits]![e]! +=
                seen === null
                  ? routed * squaredDifference(weights.data, back)
                  : seen.weight *
                    (await outputLoss(
                      products,
                      weights,
                      back,
                      projection === "downProj" ? seen.intermediates : seen.inputs,
                    ));
            }
          }
        }
      } finally {
        await engine.close();
      }
      found.set(layer.index, losses);
    });
    return found;
  } finally {
    await products.close();
  }
}

type GridOptions = MixedOptions & { group: number; symmetric: boolean };

/** What gets a width of its own, an expert or a layer, what it takes and loses at each, and what all may take. */
export interface WidthChoices {
  widths: readonly Bits[];
  items: readonly (AllocationItem & { layer: number; count: number })[];
  budget: number;
}

/** The budget is `budget` bits a weight on average, scales included, or the bytes that `uniform` takes. */
export function widthChoices(
  description: ModelDescription,
  uniform: QuantisationPlan,
  options: GridOptions,
  losses: WidthLosses,
): WidthChoices {
  const widths = widthsOf(options);
  const layers = moeLayers(description);
  const { group } = options;
  const zeroPoints = zeroPointsOf(options);
  const bytesAt = (moe: MoeDescription, bits: Bits) => expertBytes(moe, { bits, group, ...zeroPoints });
  const sumOver = (value: (moe: MoeDescription, layer: number) => number) =>
    layers.reduce((sum, { moe, layer }) => sum + moe.numExperts * value(moe, layer), 0);
  const budget =
    options.budget > 0
      ? sumOver(({ intermediateSize }) => (3 * intermediateSize * description.hiddenSize * options.budget) / 8)
      : sumOver((moe, layer) => bytesAt(moe, uniform.layers[String(layer)]!.bits as Bits));
  const items = layers.flatMap(({ layer, moe }): (AllocationItem & { layer: number; count: number })[] => {
    const own = (bits: Bits, e: number) => losses.get(layer)?.[bits]?.[e] ?? 0;
    const experts = moe.experts.map((_, e) => ({
      ...{
        layer,
        count: 1,
        losses: widths.map((bits) => own(bits, e)),
        bytes: widths.map((bits) => bytesAt(moe, bits)),
      },
    }));
    return options.granularity === "expert" ? experts : [{ ...joined(experts), layer, count: moe.numExperts }];
  });
  return { widths, items, budget };
}

/**
 * Widths by the least sum of losses within the budget.
 * @throws RerouteError plan/invalid for a budget below the smallest widths
 */
export function mixedLayers(
  description: ModelDescription,
  uniform: QuantisationPlan,
  options: GridOptions,
  losses: WidthLosses,
): QuantisationPlan["layers"] {
  const choices = widthChoices(description, uniform, options, losses);
  const { items, budget } = choices;
  const chosen = options.granularity === "model" ? allocate([joined(items)], budget) : allocate(items, budget);
  const places = items.map((_, i) => chosen[options.granularity === "model" ? 0 : i]!);
  return layersAt(description, choices, places, options, losses);
}

/** Layers of a plan in which each item has the width of its place among the widths. */
export function layersAt(
  description: ModelDescription,
  { widths, items }: WidthChoices,
  places: readonly number[],
  options: GridOptions,
  losses: WidthLosses,
): QuantisationPlan["layers"] {
  const { group } = options;
  const zeroPoints = zeroPointsOf(options);
  const bitsOfItems = places.map((place) => widths[place]!);
  return Object.fromEntries(
    moeLayers(description).map(({ layer }) => {
      const experts = items.flatMap((item, i) =>
        item.layer === layer ? new Array<Bits>(item.count).fill(bitsOfItems[i]!) : [],
      );
      const bits = mostFrequent(experts);
      const isMixed = experts.some((own) => own !== bits);
      const own = losses.get(layer);
      return [
        String(layer),
        { bits, group, ...zeroPoints, ...(isMixed ? { experts } : {}), ...(own ? { losses: own } : {}) },
      ];
    }),
  );
}

function zeroPointsOf({ symmetric }: Pick<GridOptions, "symmetric">) {
  return symmetric ? {} : { symmetric: false as const };
}

/** Bytes of one expert as it is stored. */
function expertBytes(moe: MoeDescription, grid: StoredGrid): number {
  const { parts } = outputFormats["pack-quantized"];
  return projections
    .flatMap((projection) => {
      const { size } = storedProjection(moe, 0, projection);
      return parts(size, grid, scaleTypeOf(moe));
    })
    .reduce((sum, part) => sum + byteLengthOf(part.dtype, part.shape), 0);
}

/** Several items that get one width. */
function joined(items: readonly AllocationItem[]): AllocationItem {
  const sum = (field: keyof AllocationItem) =>
    items[0]![field].map((_, choice) => items.reduce((total, item) => total + item[field][choice]!, 0));
  return { losses: sum("losses"), bytes: sum("bytes") };
}

function mostFrequent(values: readonly Bits[]): Bits {
  const count = (value: Bits) => values.filter((other) => other === value).length;
  return [...new Set(values)].sort((a, b) => count(b) - count(a) || a - b)[0]!;
}

function squaredDifference(values: ArrayLike<number>, others: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i]! - others[i]!) ** 2;
  return sum;
}
