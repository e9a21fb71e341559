import { hasNoRatio } from "../../protocol/methods";
import type { CompressOptions } from "../../protocol/recipe";

/** How much a compression leaves, in words: a share up to 1 or a count of experts above; where that says nothing, the bits asked for. */
export function amountOf({ method, keep, options }: Pick<CompressOptions, "method" | "keep" | "options">): string {
  if (!hasNoRatio(method)) return keep > 1 ? `${keep} experts` : `${Number((100 * keep).toFixed(1))} %`;
  const { bits, allocate = "none", budget } = options;
  const otherwise = method === "fp8" || method === "router-rtn" ? 8 : 4;
  const asked = allocate !== "none" && typeof budget === "number" && budget > 0 ? budget : (bits ?? otherwise);
  return `${asked} bits${allocate === "none" ? "" : " on average"}`;
}
