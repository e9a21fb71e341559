import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import {
  checkpointFolderOf,
  checkpointLabel,
  isInternal,
  matchesFilter,
} from "../../../src/extension/checkpoints/checkpointFolder";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();

describe("the checkpoint that a right-click means", () => {
  it.each<[string, boolean, string | null]>([
    ["/m/qwen", true, "/m/qwen"],
    ["/m/qwen/config.json", false, "/m/qwen"],
    ["/m/qwen/model-00001-of-00002.safetensors", false, "/m/qwen"],
    ["/m/qwen/model.safetensors.index.json", false, "/m/qwen"],
    ["/m/qwen/tokenizer.json", false, null],
  ])("%s", (file, isDirectory, expected) => expect(checkpointFolderOf(file, isDirectory)).toBe(expected));
});

it.each([
  ["grid/cells/reap-0.5", "reap-0.5/compressed"],
  ["2026-01-02_03-04-05_fine-reap", "fine-reap/compressed"],
  ["2026-01-02_03-04-05", "2026-01-02_03-04-05/compressed"],
])("a checkpoint that the run %s keeps is called %s", (id, label) => {
  const run = path.join(folder, id);
  mkdirSync(run, { recursive: true });
  writeFileSync(path.join(run, "run.json"), "{}");
  expect(checkpointLabel(path.join(run, "compressed"))).toBe(label);
});

it.each([
  ["/home/me/.cache/huggingface/hub/models--Qwen--Qwen3-30B-A3B/snapshots/0123456789abcdef", "Qwen/Qwen3-30B-A3B"],
  ["/hub/models--Qwen--Qwen3-30B-A3B", "Qwen/Qwen3-30B-A3B"],
  ["/hub/models--gpt2/snapshots/abc", "gpt2"],
])("a model of a Hugging Face cache is called as on the Hub: %s", (cached, label) => {
  expect(checkpointLabel(cached)).toBe(label);
});

it.each<[string, boolean]>([
  ["/hub/models--Qwen--Qwen3-30B-A3B/blobs", true],
  ["/hub/models--Qwen--Qwen3-30B-A3B/blobs/parts", true],
  ["/hub/models--Qwen--Qwen3-30B-A3B/.no_exist/0123", true],
  ["/hub/models--Qwen--Qwen3-30B-A3B/snapshots/0123", false],
  ["/w/blobs", false],
])("a cache keeps %s for itself: %s", (inside, expected) => expect(isInternal(inside)).toBe(expected));

it.each<[string, boolean]>([
  ["", true],
  ["qwen", true],
  ["30b QWEN", true],
  ["mixtral", false],
  ["qwen 32b", false],
])("the filter %j lists Qwen/Qwen3-30B-A3B: %s", (filter, expected) => {
  expect(matchesFilter("Qwen/Qwen3-30B-A3B", filter)).toBe(expected);
});

it("others are called as their folder", () => expect(checkpointLabel(path.join(folder, "qwen"))).toBe("qwen"));
