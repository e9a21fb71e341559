import { elementCount } from "../tensor/dtype";
import { factored } from "./factored";
import { mxfp4, nvfp4 } from "./float4";
import type { DecodedValue, Decoding, WeightForm } from "./form";
import { awq, gptqForm } from "./grouped";
import { packed } from "./packed";
import { scaled } from "./scaled";
import type { Quantisation, WeightView } from "./view";

/** Every form that a matrix can be stored in beside plain numbers. */
export const weightForms: { [K in Quantisation["kind"]]: WeightForm<K> } = {
  scaled,
  mxfp4,
  nvfp4,
  packed,
  gptq: gptqForm,
  awq,
  factored,
};

/** What a view's storage is called in messages: its dtype, or its form. */
export function formName({ dtype, quantisation }: WeightView): string {
  return quantisation === undefined ? dtype : `${dtype} (${weightForms[quantisation.kind].name})`;
}

/** What of a weight may train: plain numbers, or the scales of codes where they are plain numbers; null: nothing of it. */
export function trainableView(view: WeightView): WeightView | null {
  return view.quantisation === undefined ? view : trainableScales(view);
}

/** The scales of a quantised weight, which may train while its codes stay; null where it has none in floats. */
export function trainableScales({ quantisation }: WeightView): WeightView | null {
  const scales = quantisation && rowOf(quantisation).scales?.(quantisation);
  return scales && ["F32", "F16", "BF16"].includes(scales.dtype) ? scales : null;
}

/** The view's numbers in the graph's float type. */
export function decodeView<V extends DecodedValue>(from: Decoding<V>, view: WeightView): V {
  const { quantisation } = view;
  if (quantisation === undefined) return from.graph.cast(from.stored(view), from.graph.floatType);
  return rowOf(quantisation).decode(from, view, quantisation);
}

/** x W^T for W [out, in] where its form has a way that costs less than decoding W; null elsewhere. */
export function productOfView<V extends DecodedValue>(from: Decoding<V>, x: V, view: WeightView): V | null {
  const { quantisation } = view;
  return quantisation === undefined ? null : (rowOf(quantisation).product?.(from, x, view, quantisation) ?? null);
}

/** Scales, zero points or factors of a view. */
export function companionsOf({ quantisation }: WeightView): readonly WeightView[] {
  return quantisation === undefined ? [] : rowOf(quantisation).companions(quantisation);
}

/** Numbers that a view stands for, which are its parameters; of a factored matrix all that it is multiplied out to. */
export function decodedNumbers({ shape }: WeightView): number {
  return elementCount(shape);
}

/** The row of a form, seen as taking any quantisation: it is given its own only. */
function rowOf(quantisation: Quantisation): WeightForm<Quantisation["kind"]> {
  return weightForms[quantisation.kind] as unknown as WeightForm<Quantisation["kind"]>;
}
