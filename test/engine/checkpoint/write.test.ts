import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { Checkpoint } from "../../../src/engine/checkpoint/checkpoint";
import { tensorDigests } from "../../../src/engine/checkpoint/fingerprint";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { completeOutput, isUnfinishedOutputOf } from "../../../src/engine/checkpoint/outputFolder";
import { readFloat32, readTensorBytes } from "../../../src/engine/checkpoint/read";
import { copyRows, copyTensor, tensorFromBytes, type TensorSource } from "../../../src/engine/checkpoint/tensorSource";
import { writeCheckpoint, type WriteCheckpointOptions } from "../../../src/engine/checkpoint/write";
import type { ErrorCode } from "../../../src/protocol/errors";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError } from "./fixtures";

const teacherPath = "test/fixtures/goldens/qwen3_moe/checkpoint";
const coarsePath = "test/fixtures/coarse";
const marker = ".reroute-incomplete";

const copyAll = (checkpoint: Checkpoint) => [...checkpoint.tensors.values()].map((entry) => copyTensor(entry));
const newPath = () => path.join(temporaryFolder(), "out");
const snapshot = (folder: string) =>
  Object.fromEntries(
    readdirSync(folder).map((name) => [name, readFileSync(path.join(folder, name)).toString("base64")]),
  );

async function copyOf(teacher: Checkpoint, options: Partial<WriteCheckpointOptions> = {}): Promise<string> {
  const directory = options.directory ?? newPath();
  await writeCheckpoint({ directory, tensors: copyAll(teacher), config: teacher.config, ...options });
  return directory;
}

describe("writeCheckpoint round trips", () => {
  it.each([
    teacherPath,
    coarsePath,
    "test/fixtures/goldens/gpt_oss/checkpoint",
    "test/fixtures/goldens/deepseek_v3/checkpoint",
  ])("%s as one file equals the original byte for byte, config and tokenizer included", async (source) => {
    const teacher = await openCheckpoint(source);
    const out = await copyOf(teacher, { copyFilesFrom: source });
    const original = snapshot(source);
    const written = snapshot(out);
    expect(Object.keys(written).sort()).toEqual(Object.keys(original).sort());
    for (const name of Object.keys(original).filter((file) => file !== "config.json")) {
      expect(written[name] === original[name], name).toBe(true);
    }
    const text = (file: string) => readFileSync(file, "utf8").trimEnd();
    expect(text(path.join(out, "config.json"))).toBe(text(path.join(source, "config.json")));
  });

  it("in shards: same tensors, shard sizes within the limit, index as transformers writes it", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const maxShardBytes = 30_000;
    const out = await copyOf(teacher, { maxShardBytes });
    const copy = await openCheckpoint(out);
    expect(copy.shards.length).toBeGreaterThan(3);
    expect(copy.shards.map(({ name }) => name)).toEqual(
      copy.shards.map((_, i) => `model-0000${i + 1}-of-0000${copy.shards.length}.safetensors`),
    );
    for (const shard of copy.shards) {
      const own = [...copy.tensors.values()].filter((entry) => entry.shard === shard);
      expect(own.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBeLessThanOrEqual(maxShardBytes);
      expect(own.every(({ byteOffset }) => byteOffset % 2 === 0)).toBe(true);
      expect({ ...shard.metadata }).toEqual({ format: "pt" });
    }
    expect(await tensorDigests(copy)).toEqual(new Map([...(await tensorDigests(teacher))].sort(byOrderOf(copy))));
    const text = readFileSync(path.join(out, "model.safetensors.index.json"), "utf8");
    const index = JSON.parse(text) as { metadata: { total_size: number }; weight_map: Record<string, string> };
    expect(text).toBe(`${JSON.stringify(index, null, 2)}\n`);
    expect(index.metadata.total_size).toBe([...teacher.tensors.values()].reduce((sum, t) => sum + t.byteLength, 0));
    expect(Object.keys(index.weight_map)).toEqual([...teacher.tensors.keys()].sort());
  });

  it("from shards back to one file gives the first file again", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const shards = await openCheckpoint(await copyOf(teacher, { maxShardBytes: 20_000 }));
    const joined = await copyOf(shards);
    expect(readFileSync(path.join(joined, "model.safetensors"))).toEqual(
      readFileSync(path.join(teacherPath, "model.safetensors")),
    );
  });

  it("gives a tensor beyond the limit a shard of its own, and no tensors an empty file", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const out = await openCheckpoint(await copyOf(teacher, { maxShardBytes: 1 }));
    expect(out.shards).toHaveLength(teacher.tensors.size);
    expect((await openCheckpoint(await copyOf(teacher, { tensors: [] }))).tensors.size).toBe(0);
  });

  it("twice gives the same files", async () => {
    const teacher = await openCheckpoint(coarsePath);
    const [first, second] = [
      await copyOf(teacher, { copyFilesFrom: coarsePath }),
      await copyOf(teacher, { copyFilesFrom: coarsePath }),
    ];
    expect(snapshot(first)).toEqual(snapshot(second));
  });
});

/** Maps compare by order in no assertion; sorted the same way they read better in a difference. */
function byOrderOf(checkpoint: Checkpoint) {
  const order = new Map([...checkpoint.tensors.keys()].map((name, i) => [name, i]));
  return ([a]: [string, string], [b]: [string, string]) => order.get(a)! - order.get(b)!;
}

describe("sources", () => {
  it("slices rows, renames, and mixes copies with new bytes of any size", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const router = teacher.tensors.get("model.layers.1.mlp.gate.weight")!;
    const embedding = teacher.tensors.get("model.embed_tokens.weight")!;
    const large = new Uint8Array(20 * 2 ** 20).map((_, i) => i % 253);
    const tensors: TensorSource[] = [
      copyRows(router, [6, 0, 3]),
      copyTensor(embedding, "renamed"),
      tensorFromBytes({ name: "large", dtype: "U8", shape: [large.length] }, async () => large),
      tensorFromBytes({ name: "small", dtype: "F32", shape: [1] }, () => new Uint8Array(Float32Array.of(2.5).buffer)),
      {
        name: "mixed",
        dtype: "BF16",
        shape: [2, 32],
        parts: [
          { kind: "bytes", byteLength: 64, data: () => new Uint8Array(64).fill(7) },
          { kind: "copy", entry: router, byteOffset: 64, byteLength: 64 },
        ],
      },
    ];
    const out = await openCheckpoint(await copyOf(teacher, { tensors }));
    const read = async (name: string) => Buffer.from(await readTensorBytes(out.tensors.get(name)!));
    const rows = await readFloat32(router);
    const expected = [6, 0, 3].flatMap((row) => [...rows.subarray(row * 32, row * 32 + 32)]);
    expect([...(await readFloat32(out.tensors.get(router.name)!))]).toEqual(expected);
    expect((await read("renamed")).equals(await readTensorBytes(embedding))).toBe(true);
    expect((await read("large")).equals(large)).toBe(true);
    expect((await readFloat32(out.tensors.get("small")!))[0]).toBe(2.5);
    const second = await readTensorBytes(router, { byteOffset: 64, byteLength: 64 });
    expect(await read("mixed")).toEqual(Buffer.concat([Buffer.alloc(64, 7), second]));
  });

  const bad: [string, (checkpoint: Checkpoint) => TensorSource[], ErrorCode, string[]][] = [
    ["a name twice", (c) => [...copyAll(c), ...copyAll(c)], "internal", ["twice"]],
    [
      "a row that is not there",
      (c) => [copyRows(c.tensors.get("model.layers.0.mlp.gate.weight")!, [8])],
      "plan/invalid",
      ["row 8", "gate.weight", "[8, 32]"],
    ],
    [
      "parts that do not add up",
      (c) => [{ ...copyTensor(c.tensors.get("model.norm.weight")!), shape: [33] }],
      "internal",
      ["model.norm.weight", "64 bytes", "needs 66"],
    ],
    [
      "a range outside the tensor",
      (c) => [
        {
          name: "x",
          dtype: "U8",
          shape: [64],
          parts: [{ kind: "copy", entry: c.tensors.get("model.norm.weight")!, byteOffset: 1, byteLength: 64 }],
        },
      ],
      "internal",
      ["do not exist"],
    ],
    [
      "bytes other than announced",
      () => [
        {
          name: "x",
          dtype: "U8",
          shape: [4],
          parts: [{ kind: "bytes", byteLength: 4, data: () => new Uint8Array(3) }],
        },
      ],
      "internal",
      ["3 bytes", "4 were announced"],
    ],
  ];
  it.each(bad)("refuses %s and leaves no folder", async (_what, tensors, code, mentions) => {
    const teacher = await openCheckpoint(teacherPath);
    const directory = newPath();
    await expectError(
      async () => writeCheckpoint({ directory, tensors: tensors(teacher), config: {} }),
      code,
      ...mentions,
    );
    expect(readdirSync(path.dirname(directory))).toEqual([]);
  });
});

const indexFile = "model.safetensors.index.json";

function filesIn(directory: string): string[] {
  return (readdirSync(directory, { recursive: true }) as string[])
    .filter((name) => statSync(path.join(directory, name)).isFile())
    .map((name) => name.split(path.sep).join("/"))
    .sort();
}

describe("config.json and companions", () => {
  it("keeps how numbers were spelled where their value is the same, and writes Python's literals", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const source = temporaryFolder();
    writeFileSync(
      path.join(source, "config.json"),
      '{"a":1.0,"b":1e-06,"c":{"d":[10000.0,2]},"e":8.0,"big":12345678901234567890,"z":-0.0}',
    );
    const config = {
      a: 1,
      b: 1e-6,
      c: { d: [10000, 3], new: null },
      e: 5,
      big: Number("12345678901234567890"),
      z: -0,
      limit: [0, Infinity, NaN],
      text: 'ü"\n',
      skip: undefined,
    };
    const out = await copyOf(teacher, { config, copyFilesFrom: source });
    expect(readFileSync(path.join(out, "config.json"), "utf8")).toBe(
      '{\n  "a": 1.0,\n  "b": 1e-06,\n  "c": {\n    "d": [\n      10000.0,\n      3\n    ],\n    "new": null\n  },\n  "e": 5,\n  "big": 12345678901234567890,\n  "z": -0.0,\n  "limit": [\n    0,\n    Infinity,\n    NaN\n  ],\n  "text": "ü\\"\\n"\n}\n',
    );
  });

  it("copies all that is no weight, in folders too; no cards, caches, runs, other models, or links that lead away", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const base = temporaryFolder();
    const source = path.join(base, "checkpoint");
    const write = (name: string, text = name) => {
      mkdirSync(path.dirname(path.join(source, name)), { recursive: true });
      writeFileSync(path.join(source, name), text);
    };
    const wanted = [
      ...["LICENSE", "chat_template.jinja", "generation_config.json", "modeling_x.py", "helper.py", "tokenizer.json"],
      ...[
        "preprocessor_config.json",
        "video_preprocessor_config.json",
        "tekken.json",
        "qwen.tiktoken",
        "tool_parser.py",
      ],
      ...["additional_chat_templates/rag.jinja", "code/__init__.py", "code/layers/router.py"],
    ];
    const left = [
      ...["README.md", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "reroute.json", ".env"],
      ...[
        "pytorch_model.bin",
        "optimizer.pt",
        "m.gguf",
        "trainer_state.json",
        ".git/config",
        ".cache/x",
        ".gitattributes",
      ],
      ...[
        "__pycache__/x.pyc",
        "checkpoint-5/tokenizer.json",
        "checkpoint-5/model.safetensors",
        "run-1/run.json",
        "run-1/log.txt",
      ],
      ...["a/b/c/d/e/too-deep.py", "student/tokenizer.json", "student/reroute.json", "adapter_config.json"],
    ];
    for (const name of [...wanted, ...left]) write(name);
    truncateSync(path.join(source, "pytorch_model.bin"), 10);
    write("huge.json");
    truncateSync(path.join(source, "huge.json"), 129 * 2 ** 20);
    write("blob", "linked");
    symlinkSync("blob", path.join(source, "vocab.json"));
    mkdirSync(path.join(source, "merges.txt"));
    // A link leads away, to a secret; another to where the weights really lie, as in a download cache.
    mkdirSync(path.join(base, "blobs"));
    for (const name of ["secret", "blobs/1", "blobs/2"]) writeFileSync(path.join(base, name), name);
    symlinkSync("../secret", path.join(source, "special_tokens_map.json"));
    symlinkSync("../blobs/1", path.join(source, "model.safetensors"));
    symlinkSync("../blobs/2", path.join(source, "merges.model"));
    symlinkSync("../blobs", path.join(source, "linked-folder"));
    symlinkSync("gone", path.join(source, "broken"));

    const directory = path.join(source, "out");
    await copyOf(teacher, { directory, copyFilesFrom: source, extraFiles: { "reroute.json": "{}", LICENSE: "ours" } });
    const expected = [
      ...wanted,
      "blob",
      "vocab.json",
      "merges.model",
      "reroute.json",
      "config.json",
      "model.safetensors",
    ];
    expect(filesIn(directory)).toEqual(expected.sort());
    expect(readFileSync(path.join(directory, "vocab.json"), "utf8")).toBe("linked");
    expect(readFileSync(path.join(directory, "code/layers/router.py"), "utf8")).toBe("code/layers/router.py");
    expect(readFileSync(path.join(directory, "LICENSE"), "utf8")).toBe("ours");
  });

  it("takes copied folders back on failure, writes them anew after a kill, and refuses what is not theirs", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const source = temporaryFolder();
    mkdirSync(path.join(source, "code"));
    writeFileSync(path.join(source, "code/x.py"), "x");
    const leave = (name: string) => {
      const directory = temporaryFolder();
      mkdirSync(path.join(directory, path.dirname(name)), { recursive: true });
      writeFileSync(path.join(directory, marker), '{"run":"r1"}\n');
      writeFileSync(path.join(directory, name), "left");
      return directory;
    };
    const options = { runId: "r1", copyFilesFrom: source };
    for (const name of ["code/x.py", "code/.x.py.reroute-partial"]) {
      const directory = leave(name);
      await copyOf(teacher, { directory, ...options });
      expect(filesIn(directory)).toEqual(["code/x.py", "config.json", "model.safetensors"]);
    }
    for (const name of ["code/thesis.txt", "thesis/x.py", "code/x.py/x.py"]) {
      const directory = leave(name);
      await expectError(() => copyOf(teacher, { directory, ...options }), "output/not-empty", name.split("/")[0]!);
      expect(readFileSync(path.join(directory, name), "utf8")).toBe("left");
    }
    // The index is written last: a folder in its place fails the write when all else is there.
    const directory = newPath();
    const failing = {
      ...options,
      directory,
      maxShardBytes: 30_000,
      onProgress: () => mkdirSync(path.join(directory, indexFile), { recursive: true }),
    };
    await expectError(() => copyOf(teacher, failing), "output/write-failed");
    expect(filesIn(directory)).toEqual([]);
    expect(existsSync(path.join(directory, "code"))).toBe(false);
  });

  it("refuses extra files outside the folder", async () => {
    const teacher = await openCheckpoint(teacherPath);
    await expectError(() => copyOf(teacher, { extraFiles: { "../x": "" } }), "checkpoint/unsafe-path", "../x");
  });
});

describe("the output folder", () => {
  it("may be missing with its parents, or empty", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const empty = temporaryFolder();
    await copyOf(teacher, { directory: empty });
    await copyOf(teacher, { directory: path.join(newPath(), "a/b") });
    expect(readdirSync(empty).sort()).toEqual(["config.json", "model.safetensors"]);
  });

  it("is refused when it holds anything, which stays as it was", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const directory = await copyOf(teacher);
    const before = snapshot(directory);
    await expectError(
      () => copyOf(teacher, { directory, runId: "r" }),
      "output/not-empty",
      "config.json",
      "choose another folder",
    );
    expect(snapshot(directory)).toEqual(before);
    const file = path.join(temporaryFolder(), "file");
    writeFileSync(file, "mine");
    await expectError(() => copyOf(teacher, { directory: file }), "output/write-failed", "file");
  });

  it("left by a killed attempt of the same run is written anew; other runs and other files are refused", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const expected = snapshot(await copyOf(teacher, { copyFilesFrom: teacherPath }));
    const leave = (files: Record<string, string>) => {
      const folder = temporaryFolder();
      for (const [name, text] of Object.entries(files)) writeFileSync(path.join(folder, name), text);
      return folder;
    };
    const own = '{"run":"r1"}\n';
    const again = async (directory: string, runId: string) => {
      await copyOf(teacher, { directory, runId, copyFilesFrom: teacherPath });
      expect(snapshot(directory)).toEqual(expected);
    };
    await again(leave({ [marker]: own }), "r1");
    await again(leave({ [marker]: "" }), "r1");
    await again(leave({ [marker]: own.slice(0, 5) }), "r1");
    await again(
      leave({
        [marker]: own,
        ".model.safetensors.reroute-partial": "cut",
        "config.json": "{}",
        ".config.json.reroute-partial": "",
      }),
      "r1",
    );
    await again(
      leave({ [marker]: own, "model-00001-of-00002.safetensors": "x", "model.safetensors.index.json": "{}" }),
      "r1",
    );

    const refused: [Record<string, string>, string][] = [
      [{ [marker]: own }, "another run"],
      [{ [marker]: own.slice(0, 5), "config.json": "{}" }, "another run"],
      [{ [marker]: '{"run":"r2"}\n', "thesis.txt": "mine" }, "thesis.txt"],
    ];
    for (const [files, mention] of refused) {
      const directory = leave(files);
      await expectError(() => copyOf(teacher, { directory, runId: "r2" }), "output/not-empty", mention);
      expect(Object.keys(snapshot(directory)).sort()).toEqual(Object.keys(files).sort());
    }
    const withFolder = leave({ [marker]: own });
    mkdirSync(path.join(withFolder, "config.json"));
    await expectError(() => copyOf(teacher, { directory: withFolder, runId: "r1" }), "output/not-empty", "config.json");
  });

  it("stays marked until the caller completes it, and is no checkpoint until then", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const directory = await copyOf(teacher, { runId: "r1", leaveMarker: true });
    expect(await isUnfinishedOutputOf(directory, "r1")).toBe(true);
    expect(await isUnfinishedOutputOf(directory, "r2")).toBe(false);
    await expectError(() => openCheckpoint(directory), "checkpoint/malformed", "unfinished");
    await copyOf(teacher, { directory, runId: "r1", leaveMarker: true });
    await completeOutput(directory);
    await completeOutput(directory);
    expect(await isUnfinishedOutputOf(directory, "r1")).toBe(false);
    expect((await openCheckpoint(directory)).tensors.size).toBe(teacher.tensors.size);
  });

  it("is taken back on cancellation and on a source that changes, and keeps an empty folder that was there", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const controller = new AbortController();
    const directory = newPath();
    const onProgress = ({ bytes }: { bytes: number }) => bytes > 40_000 && controller.abort();
    await expectError(
      () =>
        copyOf(teacher, {
          directory: path.join(directory, "a"),
          signal: controller.signal,
          maxShardBytes: 20_000,
          onProgress,
        }),
      "cancelled",
    );
    expect(readdirSync(path.dirname(directory))).toEqual([]);

    const source = await copyOf(teacher);
    const opened = await openCheckpoint(source);
    const existing = temporaryFolder();
    let first = true;
    const change = () => {
      if (first) truncateSync(path.join(source, "model.safetensors"), 10_000);
      first = false;
    };
    await expectError(
      () => copyOf(opened, { directory: existing, onProgress: change, maxShardBytes: 20_000 }),
      "checkpoint/changed",
      "model.safetensors",
    );
    expect(readdirSync(existing)).toEqual([]);
  });

  it("reports progress up to all bytes", async () => {
    const teacher = await openCheckpoint(teacherPath);
    const seen: number[] = [];
    let total = 0;
    await copyOf(teacher, {
      maxShardBytes: 20_000,
      onProgress: ({ bytes, totalBytes }) => {
        seen.push(bytes);
        total = totalBytes;
      },
    });
    expect(total).toBe([...teacher.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0));
    expect(seen.at(-1)).toBeGreaterThanOrEqual(total);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });
});
