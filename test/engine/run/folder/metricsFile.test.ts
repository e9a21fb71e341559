import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import type { MetricsLine } from "../../../../src/protocol/metrics";
import { rewindMetrics } from "../../../../src/engine/run/folder/metricsFile";
import { temporaryFolder } from "../../../support/temporaryFolder";

const update = (step: number): MetricsLine => ({
  kind: "update",
  step,
  loss: 1,
  learningRate: 1,
  gradientNorm: 1,
  tokens: 1,
  seconds: 1,
});
const look = (step: number): MetricsLine => ({ kind: "held-out", step, kl: 1, nll: 1, best: true });
const sample: MetricsLine = {
  kind: "resources",
  stage: "profile",
  at: "2026-11-22T00:00:00Z",
  memoryBytes: 1,
  bytesRead: 1,
  bytesWritten: 1,
  tokensPerSecond: null,
};
const lines = [sample, look(0), update(1), update(2), look(2), update(3)];

test.each([
  [-1, [sample]],
  [0, [sample, look(0)]],
  [2, [sample, look(0), update(1), update(2), look(2)]],
  [9, lines],
])("rewound to update %i, only lines up to it stay; a torn line goes", async (step, kept) => {
  const file = path.join(temporaryFolder(), "metrics.jsonl");
  writeFileSync(file, `${lines.map((line) => JSON.stringify(line)).join("\n")}\n{"kind":"upd`);
  await rewindMetrics(file, step);
  expect(readFileSync(file, "utf8")).toBe(kept.map((line) => `${JSON.stringify(line)}\n`).join(""));
});

test("a file that is not there is nothing to rewind", async () => {
  await expect(rewindMetrics(path.join(temporaryFolder(), "metrics.jsonl"), 3)).resolves.toBeUndefined();
});
