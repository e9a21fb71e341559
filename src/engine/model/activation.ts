import { readChoice, type Config } from "./config";
import type { Activation, GatedActivation } from "./description";

const activations = {
  silu: "silu",
  swish: "silu",
  gelu: "gelu",
  gelu_pytorch_tanh: "gelu-tanh",
  // The same formula as gelu_pytorch_tanh, written out.
  gelu_new: "gelu-tanh",
} as const satisfies Record<string, Activation>;

/** `hidden_act` of config.json. @throws RerouteError `model/unsupported-option`. */
export function readGatedActivation(config: Config): GatedActivation {
  const names = Object.keys(activations) as (keyof typeof activations)[];
  return { kind: "gated", activation: activations[readChoice(config, "hidden_act", names, "silu")] };
}
