import { mkdirSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { execFileSync } from "node:child_process";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";
import { copyTensor } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint } from "../../../src/engine/checkpoint/write";
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
const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
const wholeMap = { a: "model-1.safetensors", b: "model-2.safetensors" };
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

const notes: [string, Record<string, string | Uint8Array | object>, string[], RegExp[]][] = [
  [
    "a stale entry of the index",
    { ...sharded, "model.safetensors.index.json": index({ ...wholeMap, z: "model-2.safetensors" }) },
    ["a in model-1", "b in model-2"],
    [/names 1 tensor that no file has, passed over: "z"/],
  ],
  [
    "entries that name the wrong file",
    { ...sharded, "model.safetensors.index.json": index({ a: "model-2.safetensors", b: "model-1.safetensors" }) },
    ["a in model-1", "b in model-2"],
    [/another file than the one that has them for 2 tensors: "a", "b"/],
  ],
  [
    "an overlay over older weights",
    {
      ...sharded,
      "overlay.safetensors": bytes("b"),
      "model.safetensors.index.json": index({
        ...wholeMap,
        a: "model-1.safetensors",
        b: "overlay.safetensors",
        c: "model-2.safetensors",
      }),
    },
    ["a in model-1", "b in overlay"],
    [/names 1 tensor that no file has.*"c"/, /1 tensor in more than one file, read from the one that .* names: "b"/],
  ],
  [
    "an overlay that transformers would not take",
    {
      ...sharded,
      "model-0.safetensors": bytes("b"),
      "model.safetensors.index.json": index({
        a: "model-1.safetensors",
        b: "model-0.safetensors",
        c: "model-2.safetensors",
      }),
    },
    ["b in model-0", "a in model-1"],
    [
      /names 1 tensor that no file has/,
      /in more than one file/,
      /transformers reads 1 tensor from the last file by name/,
    ],
  ],
  [
    "a single file beside an index",
    { ...sharded, "model.safetensors": bytes("single") },
    ["single in model"],
    [/model.safetensors is read and model.safetensors.index.json is not/],
  ],
  [
    "a saved base model",
    {
      "config.json": config,
      "model.safetensors": rawSafetensors(
        {
          "embed_tokens.weight": { dtype: "U8", shape: [1], data_offsets: [0, 1] },
          "layers.0.mlp.gate.weight": { dtype: "U8", shape: [1], data_offsets: [1, 2] },
          "lm_head.weight": { dtype: "U8", shape: [1], data_offsets: [2, 3] },
          "norm.weight": { dtype: "U8", shape: [1], data_offsets: [3, 4] },
        },
        4,
      ),
    },
    ["embed_tokens", "layers.0.mlp.gate"]
      .map((name) => `model.${name}.weight in model`)
      .concat(["lm_head.weight in model", "model.norm.weight in model"]),
    [/saved from the base model/],
  ],
  ["nothing about a checkpoint as libraries write it", sharded, ["a in model-1", "b in model-2"], []],
];

describe("openCheckpoint notes", () => {
  it.each(notes)("%s", async (_what, files, places, expected) => {
    const opened = await openCheckpoint(folderWith(files));
    const found = [...opened.tensors.values()].map(
      ({ name, shard }) => `${name} in ${shard.name.slice(0, -".safetensors".length)}`,
    );
    expect(found.sort()).toEqual([...places].sort());
    expect(opened.notes).toHaveLength(expected.length);
    for (const [i, pattern] of expected.entries()) expect(opened.notes![i]).toMatch(pattern);
  });

  it("nothing of an unused tensor of a dtype that no weight has, and copies its bytes", async () => {
    const dtypes = ["C64", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "F8_E5M2", "F6_E2M3", "F6_E3M2"];
    const bytesOf = (dtype: string) => (dtype === "C64" ? 32 : dtype.startsWith("F6") ? 3 : 4);
    let at = 0;
    const header = Object.fromEntries(
      dtypes.map((dtype) => [dtype, { dtype, shape: [4], data_offsets: [at, (at += bytesOf(dtype))] }]),
    );
    const source = await openCheckpoint(
      folderWith({ "config.json": config, "model.safetensors": rawSafetensors(header, at) }),
    );
    expect(source.notes).toEqual([]);
    const output = path.join(temporaryFolder(), "copy");
    const { tensors } = source;
    await writeCheckpoint({
      directory: output,
      tensors: [...tensors.values()].map((one) => copyTensor(one)),
      config: {},
    });
    const copy = await openCheckpoint(output);
    for (const dtype of dtypes) {
      expect(copy.tensors.get(dtype)).toMatchObject({ dtype, shape: [4] });
      expect(await readTensorBytes(copy.tensors.get(dtype)!)).toEqual(await readTensorBytes(tensors.get(dtype)!));
    }
    expect([...copy.tensors.keys()]).toEqual(["C64", "F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E5M2", "F6_E3M2", "F6_E2M3"]);
    await expectError(() => readFloat32(copy.tensors.get("C64")!), "checkpoint/unsupported-dtype", "C64");
  });
});

describe("openCheckpoint names what a folder is instead", () => {
  it("a model's folder in a Hugging Face cache, its parts, and the cache", async () => {
    const cache = temporaryFolder();
    const revision = "0123456789abcdef0123456789abcdef01234567";
    const snapshot = path.join(cache, "models--acme--tiny/snapshots", revision);
    mkdirSync(snapshot, { recursive: true });
    mkdirSync(path.join(cache, "models--acme--tiny/blobs"));
    const files = folderWith(sharded);
    for (const name of readdirSync(files)) renameSync(path.join(files, name), path.join(snapshot, name));
    for (const part of ["", "snapshots", "blobs"]) {
      const folder = path.join(cache, "models--acme--tiny", part);
      await expectError(
        () => openCheckpoint(folder),
        "checkpoint/not-found",
        "Hugging Face cache",
        `snapshots/${revision}`,
      );
    }
    await expectError(() => openCheckpoint(cache), "checkpoint/not-found", "name one of its models", '"acme/tiny"');
    const outer = path.join(cache, "models--acme--tiny/snapshots", revision, "..", "..");
    renameSync(path.join(outer, "snapshots"), path.join(cache, "plain"));
    await expectError(
      () => openCheckpoint(path.join(cache, "plain")),
      "checkpoint/not-found",
      "folders in it",
      revision,
    );
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
      "a tensor in two shards that no index tells apart",
      { "config.json": config, "x.safetensors": bytes("a"), "y.safetensors": bytes("a") },
      "checkpoint/malformed",
      ['"a"', "two files", "x.safetensors", "y.safetensors"],
    ],
    [
      "a missing shard",
      withIndex({ a: "model-1.safetensors", b: "model-9.safetensors" }),
      "checkpoint/not-found",
      ["model-9.safetensors", "2 files", "1 is not there", "download it"],
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
      { ...single, "model.safetensors": pointer },
      "checkpoint/lfs-pointer",
      ["model.safetensors", "of 5 bytes", "git lfs pull"],
    ],
    ["a Git LFS pointer as config", { ...single, "config.json": pointer }, "checkpoint/lfs-pointer", ["config.json"]],
    [
      "a Git LFS pointer as index",
      { ...sharded, "model.safetensors.index.json": pointer },
      "checkpoint/lfs-pointer",
      ["index.json", "git lfs pull"],
    ],
    [
      "an adapter",
      { "adapter_config.json": { base_model_name_or_path: "acme/base" }, "adapter_model.safetensors": bytes("a") },
      "checkpoint/adapter",
      ['base is "acme/base"', "merge"],
    ],
    [
      "an adapter beside its base's config",
      { "config.json": config, "adapter_config.json": {}, "adapter_model.safetensors": bytes("a") },
      "checkpoint/adapter",
      ["does not name its base"],
    ],
    [
      "PyTorch files without a config",
      { "model.pt": "", "training_args.bin": "" },
      "checkpoint/not-found",
      ['holds "model.pt", which', "can run code", "save_pretrained"],
    ],
    [
      "GGUF files",
      { "config.json": config, "m-Q4.gguf": "" },
      "checkpoint/not-found",
      ["GGUF files only", "m-Q4.gguf"],
    ],
    [
      "the makers' own layout",
      { "params.json": {}, "consolidated.safetensors": bytes("a") },
      "checkpoint/not-found",
      ["params.json", "transformers"],
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
