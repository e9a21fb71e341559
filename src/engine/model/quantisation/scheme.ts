import { RerouteError } from "../../../protocol/errors";
import type { Bits } from "../../weights/view";

/** How the weight of one module is stored, as quantization_config says; sizes are checked against the tensors later. */
export type Scheme =
  /** `weight_packed` words; group null: one scale a row. */
  | { kind: "packed"; bits: Bits; group: number | null }
  /** 8-bit codes in `weight`, scales in `weight_<scale>`. */
  | { kind: "scaled"; scale: "scale" | "scale_inv"; block: ScaleBlock }
  | { kind: "mxfp4" }
  | { kind: "nvfp4" }
  | { kind: "gptq"; bits: Bits; group: number | null; zeroOffset: 0 | 1 }
  | { kind: "awq"; group: number | null };

export type ScaleBlock = "row" | "tensor" | readonly [rows: number, columns: number];

/** The scheme of a module by its stored name, such as "model.layers.3.mlp.experts.7.up_proj"; null: plain numbers. */
export type Schemes = (module: string) => Scheme | null;

/** The key of config.json that says how weights are stored. */
export const quantisationKey = "quantization_config";

/** A quantised checkpoint that Reroute does not read, with what to make of it. */
export function notRead(key: string, found: unknown, supported: string): RerouteError {
  const value = typeof found === "string" ? JSON.stringify(found.slice(0, 80)) : (JSON.stringify(found) ?? "nothing");
  return new RerouteError(
    "model/unsupported-option",
    `config.json says ${quantisationKey}.${key} = ${value.slice(0, 100)}, which Reroute does not support; supported: ${supported}. ` +
      `Convert the checkpoint to BF16, or to compressed-tensors pack-quantized with symmetric integers`,
  );
}

/**
 * A width of integers that is read.
 * @throws RerouteError model/unsupported-option
 */
export function readBits(key: string, found: unknown): Bits {
  if (found === 2 || found === 3 || found === 4 || found === 8) return found;
  throw notRead(key, found, "2, 3, 4, 8");
}

/**
 * Inputs that share a scale; -1 and null: all of a row.
 * @throws RerouteError model/unsupported-option
 */
export function readGroup(key: string, found: unknown): number | null {
  if (found === null || found === undefined || found === -1) return null;
  if (Number.isSafeInteger(found) && (found as number) > 0) return found as number;
  throw notRead(key, found, "a positive number, or -1 for one scale a row");
}
