import { decoderFamily } from "../decoderFamily";
import { size } from "../settings";
import { graniteTable } from "./granitemoe";

/** Granite's with a shared expert beside the MoE block. */
export const granitemoeshared = decoderFamily({
  ...graniteTable,
  modelType: "granitemoeshared",
  about: {
    architectures: ["GraniteMoeSharedForCausalLM"],
    examples: "Granite-MoE with shared experts",
    attention: "grouped-query",
  },
  feedForward: {
    ...graniteTable.feedForward,
    joined: ["input_linear", "output_linear"],
    shared: {
      names: ["shared_mlp"],
      size: size("shared_intermediate_size", 0, { min: 0 }),
      because: "shared_intermediate_size",
    },
  },
});
