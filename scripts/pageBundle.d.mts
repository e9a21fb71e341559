import type { BuildOptions } from "esbuild";

export const componentLibraries: readonly string[];
/** @throws Error for a library that there is not */
export function pageBundle(library?: string): BuildOptions;
