import { mkdirSync, renameSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import { describe, expect, it, vi } from "vitest";
import { hubCacheFolder, listHubModels, resolveHubPath } from "../../../src/engine/checkpoint/hubCache";
import { openCheckpoint } from "../../../src/engine/checkpoint/open";
import { readTokenizerFiles } from "../../../src/engine/data/tokenizerFiles";
import { liveServices } from "../../../src/engine/liveServices";
import { temporaryFolder } from "../../support/temporaryFolder";
import { expectError, folderWith, rawSafetensors } from "./fixtures";

/** A cache with models by "org/name", each with its snapshots from the oldest on, and the branch main where it is named. */
function cacheWith(models: Record<string, { snapshots: string[]; main?: string; files?: string[] }>): string {
  const cache = temporaryFolder();
  for (const [id, { snapshots, main, files = ["config.json", "model.safetensors"] }] of Object.entries(models)) {
    const folder = path.join(cache, `models--${id.replace("/", "--")}`);
    mkdirSync(path.join(folder, "refs"), { recursive: true });
    mkdirSync(path.join(folder, "blobs"));
    if (main !== undefined) writeFileSync(path.join(folder, "refs", "main"), main);
    for (const [age, name] of snapshots.entries()) {
      const snapshot = path.join(folder, "snapshots", name);
      mkdirSync(snapshot, { recursive: true });
      for (const file of files) {
        writeFileSync(
          path.join(folder, "blobs", `${name}-${file}`),
          file === "config.json" ? "{}" : rawSafetensors({}),
        );
        symlinkSync(`../../blobs/${name}-${file}`, path.join(snapshot, file));
      }
      utimesSync(snapshot, 1000 + age, 1000 + age);
    }
  }
  return cache;
}

describe("a Hugging Face cache", () => {
  it("is where the libraries look for it", () => {
    const home = path.join(homedir(), ".cache", "huggingface", "hub");
    const rows: [NodeJS.ProcessEnv, string][] = [
      [{}, home],
      [{ XDG_CACHE_HOME: "/x" }, "/x/huggingface/hub"],
      [{ XDG_CACHE_HOME: "/x", HF_HOME: "/h" }, "/h/hub"],
      [{ HF_HOME: "~/h" }, path.join(homedir(), "h", "hub")],
      [{ HF_HOME: "/h", HF_HUB_CACHE: "/c" }, "/c"],
      [{ HUGGINGFACE_HUB_CACHE: "/old", HF_HUB_CACHE: "" }, "/old"],
    ];
    for (const [environment, expected] of rows) expect(hubCacheFolder(environment)).toBe(path.resolve(expected));
  });

  it("lists models with weights by name, each with the snapshot that its main branch names, else the newest", async () => {
    const cache = cacheWith({
      "org/named": { snapshots: ["a", "b"], main: "a\n" },
      "org/dated": { snapshots: ["old", "new"] },
      "org/gone": { snapshots: ["c"], main: "no longer there" },
      "org/tokenizer": { snapshots: ["d"], main: "d", files: ["tokenizer.json"] },
      gpt2: { snapshots: ["e"] },
      "org/empty": { snapshots: [] },
    });
    mkdirSync(path.join(cache, "datasets--org--text", "snapshots", "f"), { recursive: true });
    writeFileSync(path.join(cache, "version.txt"), "1");
    const models = await listHubModels(cache);
    expect(models.map(({ id, revision }) => `${id} ${revision}`)).toEqual([
      ...["gpt2 e", "org/dated new", "org/gone c", "org/named a"],
    ]);
    expect(await openCheckpoint(models[0]!.directory)).toMatchObject({ directory: models[0]!.directory });
    expect(await listHubModels(path.join(cache, "nowhere"))).toEqual([]);
    vi.stubEnv("HF_HUB_CACHE", cache);
    const answer = await liveServices()["checkpoint/hubModels"]({}, undefined as never);
    vi.unstubAllEnvs();
    expect(answer).toEqual({ cacheFolder: cache, models });
  });

  it("means a snapshot by a model's folder, and by org/name where no such path exists", async () => {
    const cache = cacheWith({ "org/model": { snapshots: ["a", "b"], main: "b" } });
    const model = path.join(cache, "models--org--model");
    const snapshot = (name: string) => path.join(model, "snapshots", name);
    const here = temporaryFolder();
    const rows: [absolute: string, written: string | null, expected: string][] = [
      [model, null, snapshot("b")],
      [snapshot("a"), null, snapshot("a")],
      [path.join(here, "org/model"), "org/model", snapshot("b")],
      [path.join(here, "org/model@a"), "org/model@a", snapshot("a")],
      [path.join(here, "org/model@z"), "org/model@z", path.join(here, "org/model@z")],
      [path.join(here, "org/model"), null, path.join(here, "org/model")],
      [path.join(here, "../x"), "../x", path.join(here, "../x")],
      [path.join(here, "org/other"), "org/other", path.join(here, "org/other")],
    ];
    for (const [absolute, written, expected] of rows)
      expect(await resolveHubPath(absolute, written, cache)).toBe(expected);
    mkdirSync(path.join(here, "org/model"), { recursive: true });
    expect(await resolveHubPath(path.join(here, "org/model"), "org/model", cache)).toBe(path.join(here, "org/model"));
  });

  it("names a link that a copy made a text of, and a tokenizer that was not downloaded", async () => {
    const folder = folderWith({
      "config.json": "../../blobs/0123456789abcdef",
      "model.safetensors": rawSafetensors({}),
    });
    await expectError(() => openCheckpoint(folder), "checkpoint/not-found", "config.json", "was a symbolic link");
    const pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n";
    const tokenizer = folderWith({ "tokenizer.json": pointer });
    await expectError(() => readTokenizerFiles(tokenizer), "checkpoint/lfs-pointer", "tokenizer.json", "git lfs pull");
    renameSync(path.join(tokenizer, "tokenizer.json"), path.join(tokenizer, "x.gguf"));
    const { openGguf } = await import("../../../src/engine/gguf/header");
    await expectError(() => openGguf(path.join(tokenizer, "x.gguf")), "checkpoint/lfs-pointer", "x.gguf");
  });
});
