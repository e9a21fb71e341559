import type { CollectedLayer } from "../../execution/collectLayers";
import type { FactoredForm, MoeDescription } from "../../model/description";
import { projectionShape, readProjection, type Projection } from "../layer/expertMatrices";
import type { LayerEngine } from "../layer/layerEngine";
import { matrix, type Matrix } from "../../linalg/matrix";
import type { MatrixProducts } from "../../linalg/products";
import type { MethodContext } from "../methodContext";
import type { LayerGrams } from "./grams";

/** What editing one layer may use. */
export interface EditWorkspace {
  context: MethodContext;
  engine: LayerEngine;
  products: MatrixProducts;
  layer: number;
  moe: MoeDescription;
  hiddenSize: number;
  /** Null for methods that look at weights only, where no text was given. */
  collected: CollectedLayer | null;
  grams: LayerGrams | null;
  notes: string[];
}

/** A factor of the factored layout. */
export interface Factor {
  shape: number[];
  values: Float32Array;
}

/** One projection of all experts of a layer, edited. */
export interface EditedProjection {
  form: FactoredForm["kind"];
  /** Factors of all experts together, by their names in the factored layout. */
  shared: Record<string, Factor>;
  /** Shapes of each expert's own factors. */
  ownShapes: Record<string, number[]>;
  /** The approximation of one expert's weight [m, n], whole and as its own factors. */
  ofExpert: (
    expert: number,
    original: Float32Array,
  ) => Promise<{ dense: Float32Array; own: Record<string, Float32Array> }>;
  /** Called once the layer's weights are staged: what an interrupted edit would have continued from may go. */
  done?: () => Promise<void>;
}

/** One expert's projection as a float64 matrix [out, in]. */
export async function weightOf(
  { context, moe, layer }: EditWorkspace,
  expert: number,
  projection: Projection,
): Promise<Matrix> {
  const values = await readProjection(
    context.checkpoint,
    moe.experts[expert]!,
    projection,
    `expert ${expert} of layer ${layer}`,
  );
  const [rows, columns] = shapeOf({ moe, hiddenSize: context.description.hiddenSize }, projection);
  return matrix(rows, columns, values);
}

/** Rows and columns of a projection. */
export function shapeOf(
  { moe, hiddenSize }: { moe: MoeDescription; hiddenSize: number },
  projection: Projection,
): [rows: number, columns: number] {
  return projectionShape({ intermediateSize: moe.intermediateSize, hiddenSize }, projection);
}

/** Gram matrix of what an expert's projection sees; null without text. */
export async function gramOf({ grams }: EditWorkspace, expert: number, projection: Projection): Promise<Matrix | null> {
  if (grams === null) return null;
  return projection === "downProj" ? grams.expertIntermediates(expert) : grams.expertInputs(expert);
}
