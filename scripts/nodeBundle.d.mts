import type { BuildOptions, Plugin } from "esbuild";

export const nodeBundle: BuildOptions & { define: Record<string, string>; plugins: Plugin[] };
export const queueClients: { entry: string; name: string };
export function queueApart(file: string): Plugin;
