import { readObject, type Config } from "./config";
import type { JsonObject } from "./family";

/** config.json says here whose zeros a compression made, so that a later calibration leaves them zero. */
const keptZerosKey = "reroute_kept_zeros";

/** Weights whose zeros stay: those of the routed experts, or those of the routers. */
export type KeptZeros = "experts" | "routers";

/** The config of a checkpoint whose zeros of one kind are to stay. */
export function withKeptZeros(config: JsonObject, kind: KeptZeros): JsonObject {
  return { ...config, [keptZerosKey]: { ...readObject(config, keptZerosKey), [kind]: true } };
}

/** @throws RerouteError checkpoint/malformed */
export function keepsZeros(config: Config, kind: KeptZeros): boolean {
  return readObject(config, keptZerosKey)?.[kind] === true;
}
