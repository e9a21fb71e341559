import { build } from "esbuild";
import { rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll } from "vitest";
import { nodeBundle } from "../../scripts/nodeBundle.mjs";
import { setThreadProgram } from "../../src/engine/runtime/sideBySide/partThreads";

/** Gives the tests of a file threads of the engine. */
export function buildThreadProgram(): void {
  // Inside the project, so that the thread finds onnxruntime-node.
  const bundle = path.resolve(`node_modules/.cache/reroute-thread-${process.pid}.cjs`);
  beforeAll(async () => {
    await build({ ...nodeBundle, entryPoints: ["test/support/partThreadProgram.ts"], outfile: bundle });
    setThreadProgram(bundle);
  });
  afterAll(() => rmSync(bundle, { force: true }));
}
