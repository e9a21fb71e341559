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

/**
 * `npm test` runs all four, one after another; `npx vitest --project unit` is the fast inner loop and needs neither
 * browser nor editor.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: LongestFirst },
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "test/webview/**", "test/bench/**"],
          pool: "forks",
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 180_000,
          sequence: { groupOrder: 0 },
        },
      },
      // Two files at a time: each has a browser, an editor and folders of its own, and waits more than it computes.
      inBrowser("pages", ["test/webview/*.test.ts"], measured, 2, 1),
      inBrowser("e2e", ["test/e2e/*.test.ts"], measured, 2, 2),
      inBrowser("rendering", measured, [], 1, 3),
    ],
  },
});

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
