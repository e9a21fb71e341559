import { mkdirSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";
import { elementCount } from "../../../src/engine/tensor/dtype";
import type { ErrorCode } from "../../../src/protocol/errors";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError, folderWith, rawSafetensors } from "./fixtures";

const goldens = "test/fixtures/goldens";
const families = readdirSync(goldens, { withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map(({ name }) => name);

describe("openCheckpoint on checkpoints that transformers wrote", () => {
  it.each(families)("%s", async (family) => {
    const checkpoint = await openCheckpoint(`${goldens}/${family}/checkpoint`);
    expect(checkpoint.config["model_type"]).toBe(family);
    expect(checkpoint.shards[0]?.metadata).toEqual({ format: "pt" });
    for (const entry of checkpoint.tensors.values()) {
      expect(await readFloat32(entry)).toHaveLength(elementCount(entry.shape));
    }
  });
});

const config = { model_type: "mixtral" };
const bytes = (name: string, dataBytes = 2) =>
  rawSafetensors({ [name]: { dtype: "U8", shape: [dataBytes], data_offsets: [0, dataBytes] } }, dataBytes);
const index = (weightMap: unknown) => ({ metadata: { total_size: 4 }, weight_map: weightMap });
const sharded = {
  "config.json": config,
  "model-1.safetensors": bytes("a"),
  "model-2.safetensors": bytes("b", 3),
  "model.safetensors.index.json": index({ a: "model-1.safetensors", b: "model-2.safetensors" }),
};

describe("openCheckpoint finds the files", () => {
  it.each(["", "config.json", "model-2.safetensors", "model.safetensors.index.json"])("from %j", async (name) => {
    const folder = folderWith(sharded);
    const checkpoint = await openCheckpoint(path.join(folder, name));
    expect(checkpoint.directory).toBe(folder);
    expect([...checkpoint.tensors.keys()]).toEqual(["a", "b"]);
    expect(checkpoint.shards.map((shard) => shard.name)).toEqual(["model-1.safetensors", "model-2.safetensors"]);
    expect([...(await readTensorBytes(checkpoint.tensors.get("b")!))]).toEqual([0, 1, 2]);
  });

  const choices: [string, Record<string, string | Uint8Array | object>, string, string[]][] = [
    ["a single file", { "config.json": config, "model.safetensors": bytes("only") }, "", ["only"]],
    [
      "all files where there is no index",
      { "config.json": config, "x.safetensors": bytes("x"), "y.safetensors": bytes("y") },
      "",
      ["x", "y"],
    ],
    [
      "model.safetensors before others and before an index, as transformers does",
      { ...sharded, "model.safetensors": bytes("single") },
      "",
      ["single"],
    ],
    [
      "the index when it is asked for",
      { ...sharded, "model.safetensors": bytes("single") },
      "model.safetensors.index.json",
      ["a", "b"],
    ],
    ["only files of the index", { ...sharded, "consolidated.safetensors": bytes("other") }, "", ["a", "b"]],
    [
      "tensors that the index forgot",
      {
        ...sharded,
        "model.safetensors.index.json": index({ b: "model-2.safetensors", a: "model-1.safetensors" }),
        "model-2.safetensors": rawSafetensors(
          {
            b: { dtype: "U8", shape: [1], data_offsets: [0, 1] },
            c: { dtype: "U8", shape: [1], data_offsets: [1, 2] },
          },
          2,
        ),
      },
      "",
      ["a", "b", "c"],
    ],
  ];
  it.each(choices)("%s", async (_what, files, name, tensors) => {
    const checkpoint = await openCheckpoint(path.join(folderWith(files), name));
    expect([...checkpoint.tensors.keys()]).toEqual(tensors);
  });

  it("through the links of a download cache", async () => {
    const cache = temporaryFolder();
    mkdirSync(path.join(cache, "blobs"));
    mkdirSync(path.join(cache, "snapshots/main"), { recursive: true });
    const files = folderWith(sharded);
    for (const [i, name] of readdirSync(files).entries()) {
      renameSync(path.join(files, name), path.join(cache, "blobs", String(i)));
      symlinkSync(`../../blobs/${i}`, path.join(cache, "snapshots/main", name));
    }
    const { directory, shards, tensors } = await openCheckpoint(path.join(cache, "snapshots/main"));
    expect(directory).toBe(path.join(cache, "snapshots/main"));
    expect(shards.map(({ name, realPath }) => [name, path.dirname(realPath)])).toEqual([
      ["model-1.safetensors", realpathSync(path.join(cache, "blobs"))],
      ["model-2.safetensors", realpathSync(path.join(cache, "blobs"))],
    ]);
    expect([...(await readTensorBytes(tensors.get("a")!))]).toEqual([0, 1]);
  });

  it("reads a config with Python's NaN and Infinity, a byte order mark, and __proto__ without effect", async () => {
    const text = '\ufeff{"limit":[0.0,Infinity,-Infinity,NaN],"__proto__":{"polluted":true},"constructor":1}';
    const { config } = await openCheckpoint(folderWith({ "config.json": text, "model.safetensors": bytes("a") }));
    expect(config["limit"]).toEqual([0, Infinity, -Infinity, NaN]);
    expect(Object.keys(config)).toEqual(["limit", "__proto__", "constructor"]);
    expect(config["polluted"]).toBeUndefined();
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});

describe("openCheckpoint refuses", () => {
  const single = { "config.json": config, "model.safetensors": bytes("a") };
  const withIndex = (weightMap: unknown) => ({ ...sharded, "model.safetensors.index.json": index(weightMap) });
  const rows: [string, Record<string, string | Uint8Array | object>, ErrorCode, string[], string?][] = [
    ["a missing path", single, "checkpoint/not-found", ["gone", "check the path"], "gone"],
    [
      "a file of another kind",
      { ...single, "README.md": "" },
      "checkpoint/not-found",
      ["README.md", "expected a folder"],
      "README.md",
    ],
    ["a folder without weights", { "config.json": config }, "checkpoint/not-found", ["no .safetensors"]],
    [
      "weights in another format, with advice",
      { "config.json": config, "pytorch_model.bin": "" },
      "checkpoint/not-found",
      ["pytorch_model.bin", "convert"],
    ],
    ["a missing config", { "model.safetensors": bytes("a") }, "checkpoint/not-found", ["config.json"]],
    [
      "a safetensors file that is not the checkpoint's",
      { ...single, "statistics.safetensors": bytes("s") },
      "checkpoint/not-found",
      ["statistics.safetensors"],
      "statistics.safetensors",
    ],
    [
      "a config that is a list",
      { ...single, "config.json": "[]" },
      "checkpoint/malformed",
      ["config.json", "not a JSON object"],
    ],
    ["an empty config", { ...single, "config.json": "" }, "checkpoint/malformed", ["config.json", "not a JSON object"]],
    [
      "a broken config",
      { ...single, "config.json": '{"a":tru}' },
      "checkpoint/malformed",
      ["config.json", '"tru"', "at byte"],
    ],
    ["a config with a comment", { ...single, "config.json": '{/*x*/"a":1}' }, "checkpoint/malformed", ["config.json"]],
    [
      "a deep config",
      { ...single, "config.json": `{"a":${"[".repeat(100_000)}` },
      "checkpoint/malformed",
      ["more than 64 nested"],
    ],
    [
      "a large config",
      { ...single, "config.json": `{"a":"${"x".repeat(4_000_000)}"}` },
      "checkpoint/limit",
      ["config.json", "4000000"],
    ],
    [
      "an unfinished output of Reroute",
      { ...single, ".reroute-incomplete": "" },
      "checkpoint/malformed",
      ["unfinished output", "resume"],
    ],
    [
      "an index that is no JSON",
      { ...sharded, "model.safetensors.index.json": "{" },
      "checkpoint/malformed",
      ["model.safetensors.index.json"],
    ],
    [
      "an index that is a list",
      { ...sharded, "model.safetensors.index.json": "[]" },
      "checkpoint/malformed",
      ["not a JSON object"],
    ],
    [
      "an index without weight_map",
      { ...sharded, "model.safetensors.index.json": "{}" },
      "checkpoint/malformed",
      ["no weight_map"],
    ],
    ["an empty weight_map", withIndex({}), "checkpoint/malformed", ["empty"]],
    ["a weight_map that is a list", withIndex([]), "checkpoint/malformed", ["not an object"]],
    ["a shard name that is a number", withIndex({ a: 1 }), "checkpoint/malformed", ['"a"', "not a string"]],
    [
      "a shard of another format",
      withIndex({ a: "model.bin" }),
      "checkpoint/malformed",
      ["model.bin", "not a .safetensors"],
    ],
    [
      "a tensor named twice in the index",
      {
        ...sharded,
        "model.safetensors.index.json": '{"weight_map":{"a":"model-1.safetensors","a":"model-2.safetensors"}}',
      },
      "checkpoint/malformed",
      ['"a"', "twice"],
    ],
    [
      "two weight_maps",
      { ...sharded, "model.safetensors.index.json": '{"weight_map":{},"weight_map":{}}' },
      "checkpoint/malformed",
      ["weight_map occurs twice"],
    ],
    [
      "a tensor that its shard lacks",
      withIndex({ a: "model-1.safetensors", z: "model-2.safetensors" }),
      "checkpoint/malformed",
      ['"z"', "model-2.safetensors", "no file has it"],
    ],
    [
      "a tensor that another shard has",
      withIndex({ a: "model-2.safetensors", b: "model-1.safetensors" }),
      "checkpoint/malformed",
      ['"a"', "found it in"],
    ],
    [
      "a tensor in two shards",
      { ...sharded, "model-2.safetensors": bytes("a") },
      "checkpoint/malformed",
      ['"a"', "two files", "model-1.safetensors", "model-2.safetensors"],
    ],
    [
      "a missing shard",
      withIndex({ a: "model-1.safetensors", b: "model-9.safetensors" }),
      "checkpoint/not-found",
      ["model-9.safetensors"],
    ],
    [
      "a shard cut short",
      { ...single, "model.safetensors": bytes("router").subarray(0, -1) },
      "checkpoint/truncated",
      ["model.safetensors", '"router"'],
    ],
    [
      "a shard that is a page of HTML",
      { ...single, "model.safetensors": "<!doctype html><html></html>" },
      "checkpoint/limit",
      ["model.safetensors", "safetensors file?"],
    ],
    [
      "a Git LFS pointer",
      { ...single, "model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n" },
      "checkpoint/limit",
      ["model.safetensors"],
    ],
    [
      "too many shards",
      withIndex(Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `${i}.safetensors`]))),
      "checkpoint/limit",
      ["10000 shards"],
    ],
  ];
  it.each(rows)("%s", async (_what, files, code, mentions, name) => {
    const folder = folderWith(files);
    await expectError(() => openCheckpoint(path.join(folder, name ?? "")), code, ...mentions);
  });

  const unsafe = [
    "../model.safetensors",
    "/etc/x.safetensors",
    "a/b.safetensors",
    "..\\x.safetensors",
    "C:x.safetensors",
    "x\0.safetensors",
    "..",
    ".",
    "",
    `${"n".repeat(256)}.safetensors`,
  ];
  it.each(unsafe)("the shard name %j", async (name) => {
    const folder = folderWith(withIndex({ a: name }));
    await expectError(
      () => openCheckpoint(folder),
      "checkpoint/unsafe-path",
      "model.safetensors.index.json",
      "plain name",
    );
  });

  it.skipIf(process.platform === "win32")("pipes, folders and links in a circle, without waiting", async () => {
    const folder = folderWith(single);
    const file = path.join(folder, "model.safetensors");
    const replaceWith = (make: () => void) => {
      rmSync(file, { recursive: true });
      make();
      return () => openCheckpoint(folder);
    };
    await expectError(
      replaceWith(() => execFileSync("mkfifo", [file])),
      "checkpoint/not-found",
      "not a regular file",
    );
    await expectError(
      replaceWith(() => mkdirSync(file)),
      "checkpoint/not-found",
      "not a regular file",
    );
    await expectError(
      replaceWith(() => symlinkSync("model.safetensors", file)),
      "checkpoint/not-found",
      "circle",
    );
    await expectError(
      replaceWith(() => symlinkSync("gone", file)),
      "checkpoint/not-found",
      "no such file",
    );
    rmSync(path.join(folder, "config.json"));
    execFileSync("mkfifo", [path.join(folder, "config.json")]);
    await expectError(() => openCheckpoint(folder), "checkpoint/not-found", "config.json", "not a regular file");
  });

  it("a crafted index of brackets without taking memory for them", async () => {
    const folder = folderWith({
      ...sharded,
      "model.safetensors.index.json": `{"metadata":[${"[],".repeat(5_000_000)}[]]}`,
    });
    const before = process.memoryUsage().heapUsed;
    await expectError(() => openCheckpoint(folder), "checkpoint/malformed", "no weight_map");
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(100e6);
  });
});

it("a path of the user's own may hold anything", async () => {
  const folder = path.join(temporaryFolder(), "wéird 'name' [1]");
  mkdirSync(folder);
  writeFileSync(path.join(folder, "config.json"), "{}");
  writeFileSync(path.join(folder, "model.safetensors"), bytes("a"));
  expect((await openCheckpoint(path.relative(".", folder))).directory).toBe(folder);
});
