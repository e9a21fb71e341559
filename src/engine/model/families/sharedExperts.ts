import { readInt, readNullableInt } from "../config";
import type { Names, SharedTable } from "../feedForward";

/**
 * Some shared experts, each as wide as a routed one, stored as one MLP.
 * @param absent shared experts, and the width of one, where config.json is silent
 */
export function severalShared(
  countKey: string,
  absent: number,
  absentWidth: number,
  names: Names = ["mlp.shared_experts"],
  widthKey = "moe_intermediate_size",
): SharedTable {
  return {
    names,
    because: `${countKey} times ${widthKey}`,
    counted: { countKey, widthKey },
    size: (config) =>
      (readNullableInt(config, countKey, { min: 0, absent }) ?? 0) *
      readInt(config, widthKey, { min: 1, default: absentWidth }),
  };
}
