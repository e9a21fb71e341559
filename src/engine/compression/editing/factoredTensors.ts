import { RerouteError } from "../../../protocol/errors";
import type { TensorEntry } from "../../checkpoint/checkpoint";
import { tensorFromBytes, type TensorSource } from "../../checkpoint/tensorSource";
import type {
  ExpertWeights,
  FactoredForm,
  LinearDescription,
  MoeDescription,
  WeightView,
} from "../../model/description";
import { sharedPrefix } from "../../model/factored";
import { encodeFloats, type WritableFloat } from "../../tensor/floatCodec";
import type { Projection } from "../layer/expertMatrices";
import type { EditedProjection } from "./editWorkspace";

/** The stored weight of one projection of one expert. */
export function projectionOf({ gateUp, downProj }: ExpertWeights, projection: Projection): LinearDescription {
  if (projection === "downProj") return downProj;
  if (gateUp.kind === "separate") return gateUp[projection];
  throw new Error("gate and up of these experts are one tensor");
}

/**
 * Refuses layouts whose experts have no tensors of their own that factors could take the place of.
 * @throws RerouteError model/unsupported-option
 */
export function requireSeparateExperts({ storage, experts }: MoeDescription, layer: number): void {
  if (storage.kind === "per-expert" && experts.every(({ gateUp }) => gateUp.kind === "separate")) return;
  throw new RerouteError(
    "model/unsupported-option",
    `Layer ${layer} stores its experts in fused tensors, which have no factored layout; use output=dense, or a checkpoint ` +
      `with one tensor an expert`,
  );
}

/** Names of the stored weights that factors replace. */
export function replacedTensors({ experts }: MoeDescription, projections: readonly Projection[]): Set<string> {
  return new Set(projections.flatMap((p) => experts.map((expert) => projectionOf(expert, p).weight.tensor)));
}

/** The factors of one projection of all experts, named as in docs/factored-layout.md, one expert after the other. */
export function factoredTensors(
  { experts }: MoeDescription,
  projection: Projection,
  edit: EditedProjection,
  ownFactors: (expert: number) => Promise<Record<string, Float32Array>>,
): TensorSource[] {
  const prefixes = experts.map((expert) => prefixOf(projectionOf(expert, projection).weight));
  const { dtype } = projectionOf(experts[0]!, projection).weight;
  const encode = (values: Float32Array) => encodeFloats(values, dtype as WritableFloat);
  const shared = Object.entries(edit.shared).map(([name, { shape, values }]) =>
    tensorFromBytes({ name: `${sharedPrefix(prefixes[0]!)}.${name}`, dtype, shape }, () => encode(values)),
  );
  const own = prefixes.flatMap((prefix, e) => {
    let made: Promise<Record<string, Float32Array>> | null = null;
    const names = Object.entries(edit.ownShapes);
    return names.map(([name, shape], i) =>
      tensorFromBytes({ name: `${prefix}.${name}`, dtype, shape }, async () => {
        made ??= ownFactors(e);
        const values = (await made)[name]!;
        if (i === names.length - 1) made = null;
        return encode(values);
      }),
    );
  });
  return [...shared, ...own];
}

/** The layer's experts with the edited projections read from the staged factors. */
export function factoredExperts(
  { experts }: MoeDescription,
  edits: ReadonlyMap<Projection, EditedProjection>,
  staged: ReadonlyMap<string, TensorEntry>,
  activation: "silu" | "tanh",
): ExpertWeights[] {
  const edited = (linear: LinearDescription, projection: Projection): LinearDescription => {
    const edit = edits.get(projection);
    if (!edit) return linear;
    const prefix = prefixOf(linear.weight);
    const view = (name: string): WeightView => {
      const tensor = edit.shared[name] ? `${sharedPrefix(prefix)}.${name}` : `${prefix}.${name}`;
      const { shape, dtype } = staged.get(tensor)!;
      return { tensor, offset: 0, shape, dtype };
    };
    const own = view(Object.keys(edit.ownShapes)[0]!);
    const form = formOf(edit, view, activation);
    return { ...linear, weight: { ...own, shape: linear.weight.shape, quantisation: { kind: "factored", form } } };
  };
  return experts.map((expert) => ({
    gateUp: {
      kind: "separate",
      gateProj: edited(projectionOf(expert, "gateProj"), "gateProj"),
      upProj: edited(projectionOf(expert, "upProj"), "upProj"),
    },
    downProj: edited(expert.downProj, "downProj"),
  }));
}

function formOf(
  { form, shared }: EditedProjection,
  view: (name: string) => WeightView,
  activation: "silu" | "tanh",
): FactoredForm {
  switch (form) {
    case "low-rank":
      return { kind: form, left: view("left"), right: view("right"), base: shared["base"] ? view("base") : null };
    case "shared-basis":
      return { kind: form, left: view("left"), mixture: view("mixture"), bases: view("bases"), activation };
    case "tucker":
      return { kind: form, mixture: view("mixture"), left: view("left"), core: view("core"), right: view("right") };
  }
}

/** `....experts.3.gate_proj` of `....experts.3.gate_proj.weight`. */
function prefixOf({ tensor }: WeightView): string {
  return tensor.replace(/\.weight$/, "");
}
