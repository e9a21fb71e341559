import { build } from "esbuild";
import { rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll } from "vitest";
import { nodeBundle } from "../../scripts/nodeBundle.mjs";
import { setThreadProgram } from "../../src/engine/runtime/sideBySide/partThreads";

/** Gives the tests of a file threads: of the engine, unless another program is named. */
export function buildThreadProgram(program = "test/support/partThreadProgram.ts"): void {
  // Inside the project, so that the thread finds onnxruntime-node.
  const bundle = path.resolve(`node_modules/.cache/reroute-thread-${process.pid}.cjs`);
  beforeAll(async () => {
    await build({ ...nodeBundle, entryPoints: [program], outfile: bundle });
    setThreadProgram(bundle);
  });
  afterAll(() => rmSync(bundle, { force: true }));
}
