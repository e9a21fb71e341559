import path from "node:path";
import { build } from "esbuild";

/** Bundles `child.ts` into a folder, so that a process of its own can run it. Returns the script's path. */
export async function bundleChild(folder: string): Promise<string> {
  const outfile = path.join(folder, "child.cjs");
  await build({
    entryPoints: ["test/engine/checkpoint/child.ts"],
    bundle: true,
    platform: "node",
    outfile,
    logLevel: "error",
  });
  return outfile;
}
