import { defineConfig } from "vitest/config";

const browser = { pool: "forks", fileParallelism: false, testTimeout: 180_000, hookTimeout: 300_000 } as const;

/** `npm test` runs all three; `npx vitest --project unit` is the fast inner loop and needs neither browser nor editor. */
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "unit",
          include: ["test/**/*.test.ts"],
          exclude: ["test/e2e/**", "test/webview/**", "test/bench/**"],
          pool: "forks",
          maxWorkers: 2,
          testTimeout: 60_000,
        },
      },
      { test: { name: "pages", include: ["test/webview/**/*.test.ts"], ...browser } },
      { test: { name: "e2e", include: ["test/e2e/**/*.test.ts"], ...browser } },
    ],
  },
});
