import type { DecodedValue, Decoding, WeightForm } from "./form";
import type { FactoredForm, WeightView } from "./view";

/** A matrix [out, in] made of stored factors; of low rank it is never put together. */
export const factored: WeightForm<"factored"> = {
  name: "factors",
  decode: (from, _view, { form }) => put(from, form),
  product: (from, x, _view, { form }) => {
    if (form.kind !== "low-rank") return null;
    const { graph } = from;
    const thin = graph.gemm(x, from.float(form.right), false, true);
    const product = graph.gemm(thin, from.float(form.left), false, true);
    return form.base === null ? product : graph.add(product, graph.gemm(x, from.float(form.base), false, true));
  },
  companions: ({ form }) => Object.values(form).filter((part) => typeof part === "object" && part !== null),
};

function put<V extends DecodedValue>(from: Decoding<V>, form: FactoredForm): V {
  const { graph } = from;
  /** sum_k shares_k parts_k for parts [k, rows, columns] and shares [1, k]. */
  const mixed = (shares: V, parts: WeightView) => {
    const [count, rows, columns] = parts.shape as [number, number, number];
    const flat = graph.matMul(shares, graph.reshape(from.float(parts), [count, rows * columns]));
    return graph.reshape(flat, [rows, columns]);
  };
  const row = (view: WeightView) => graph.reshape(from.float(view), [1, view.shape[0]!]);
  switch (form.kind) {
    case "low-rank": {
      const product = graph.matMul(from.float(form.left), from.float(form.right));
      return form.base === null ? product : graph.add(product, from.float(form.base));
    }
    case "shared-basis": {
      const basis = mixed(graph.softmax(row(form.mixture)), form.bases);
      const active = form.activation === "tanh" ? graph.tanh(basis) : graph.mul(basis, graph.sigmoid(basis));
      return graph.matMul(from.float(form.left), active);
    }
    case "tucker": {
      const core = mixed(row(form.mixture), form.core);
      return graph.matMul(graph.matMul(from.float(form.left), core), from.float(form.right));
    }
  }
}
