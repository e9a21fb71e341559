import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { defineConfig, type TestProjectInlineConfiguration } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** What measures times: nothing runs beside these. */
const measured = ["test/webview/rendering.test.ts", "test/e2e/rendering.test.ts"];

/** Files of half a minute and more: they begin first, so that at the end none of them is waited for alone. */
const long = [
  "test/faults/",
  "profileResume",
  "editing",
  "evaluateResume",
  "test/fuzz/",
  "run/compare",
  "merging",
  "everyFamily",
  "e2e/compare",
  "e2e/calibrate",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const group = ({ project }: TestSpecification) => project.config.sequence.groupOrder;
    const rank = ({ moduleId }: TestSpecification) => {
      const index = long.findIndex((part) => moduleId.includes(part));
      return index < 0 ? long.length : index;
    };
    return (await super.sort(files)).sort((a, b) => group(a) - group(b) || rank(a) - rank(b));
  }
}

const inUnit = readdirSync("test", { recursive: true, encoding: "utf8" })
  .map((name) => path.posix.join("test", ...name.split(path.sep)))
  .filter((file) => file.endsWith(".test.ts") && !/^test\/(e2e|webview|bench)\//.test(file));
/**
 * What puts something in a module's place: where other files have run before, the module is loaded already; what measures the
 * memory of its process; and what gives its process a graphics driver, which other files would find.
 */
const mocking = inUnit.filter((file) => /vi\.mock\(|peakBytes|softwareVulkan/.test(readFileSync(file, "utf8")));

/**
 * `npm test` runs all, one after another; `npx vitest --project "unit*"` is the fast inner loop and needs neither
 * browser nor editor.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      // Starting a process and loading the engine takes a second, longer than most files run: two processes run all files.
      inNode(
        "unit",
        inUnit.filter((file) => !mocking.includes(file)),
        false,
      ),
      inNode("unit-mocks", mocking, true),
      // Two files at a time: each has a browser, an editor and folders of its own, and waits more than it computes.
      inBrowser("pages", ["test/webview/*.test.ts"], measured, 2, 1),
      inBrowser("e2e", ["test/e2e/*.test.ts"], measured, 2, 2),
      inBrowser("rendering", measured, [], 1, 3),
    ],
  },
});

function inNode(name: string, include: string[], isolate: boolean): TestProjectInlineConfiguration {
  // Limits of time end what hangs, and nothing else.
  const timeouts = { testTimeout: 900_000, hookTimeout: 900_000 };
  return {
    test: {
      ...{ name, include, isolate, pool: "forks", maxWorkers: 2, sequence: { groupOrder: 0 }, ...timeouts },
      setupFiles: "test/support/sessionPool.ts",
      // The setup loads onnxruntime before the engine does, which sets this itself (noTelemetry.test.ts).
      env: { ORT_DISABLE_TELEMETRY: "1" },
    },
  };
}

function inBrowser(
  name: string,
  include: string[],
  exclude: string[],
  maxWorkers: number,
  groupOrder: number,
): TestProjectInlineConfiguration {
  const timeouts = { testTimeout: 300_000, hookTimeout: 300_000 };
  return { test: { name, include, exclude, pool: "forks", maxWorkers, sequence: { groupOrder }, ...timeouts } };
}
