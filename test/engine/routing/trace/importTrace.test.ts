import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { writeSafetensorsFile } from "../../../../src/engine/checkpoint/safetensorsFile";
import { listRuns, routingPanel, similarityPanel } from "../../../../src/engine/report/panels";
import { statisticsFields } from "../../../../src/engine/routing/layerStatistics";
import { loadRoutingStatistics, saveRoutingStatistics } from "../../../../src/engine/routing/statisticsFile";
import { importTrace, type ImportTraceRequest } from "../../../../src/engine/run/importTrace";
import { routingPanelData } from "../../../../src/protocol/panelSchemas";
import { runCli } from "../../../../src/cli/program";
import { floats, ggufBytes, u32 } from "../../../support/ggufFile";
import { goldenCheckpoint } from "../../../support/goldens";
import { temporaryFolder } from "../../../support/temporaryFolder";

const traces = path.join(import.meta.dirname, "../../../fixtures/traces");
const folder = temporaryFolder();
let runs = 0;

async function run(file: string, more: Partial<ImportTraceRequest> = {}) {
  const runDirectory = path.join(folder, "runs", String(runs++));
  const result = await importTrace({ file: path.resolve(traces, file), format: "auto", runDirectory, ...more });
  const panel = (await routingPanel(runDirectory))!;
  // What the extension sends to the page must pass its schema.
  expect(routingPanelData.safeParse(panel).success).toBe(true);
  const { values, columns } = panel.byDomain[""]!.frequency;
  const rows = panel.layers.map((_, i) => values.slice(i * columns, (i + 1) * columns));
  return { ...result, panel, rows };
}

/** Layer 0 of the prompt: 0,1 0,2; of the answer: 1,0 0,3. Layer 1: 2,3 3,1; 2,3 3,2. Two prompt positions count. */
const promptRows = [
  [2, 1, 1, 0],
  [0, 1, 1, 2],
];
const bothRows = [
  [4, 2, 1, 1],
  [0, 1, 3, 4],
];

/** blk.2 of 6 experts, 20 tokens, 2 experts each; blk.3 without its router's count. */
function imatrix(counts: readonly number[] = [10, 0, 5, 5, 15, 5]): Buffer {
  const tensor = (name: string, values: readonly number[]) => ({
    name,
    type: 0,
    shape: [values.length, 1],
    data: floats(...values),
  });
  return ggufBytes({
    metadata: [
      ["general.type", { string: "imatrix" }],
      ["imatrix.datasets", { strings: ["text.txt"] }],
      ["imatrix.chunk_count", { uint32: 1 }],
      ["imatrix.chunk_size", { uint32: 512 }],
    ],
    tensors: [
      tensor("blk.2.attn_q.weight.counts", [20]),
      tensor("blk.2.ffn_gate_inp.weight.counts", [20]),
      {
        name: "blk.2.ffn_down_exps.weight.in_sum2",
        type: 0,
        shape: [6, 2],
        data: floats(...new Array<number>(12).fill(1)),
      },
      tensor("blk.2.ffn_down_exps.weight.counts", counts),
      tensor("blk.3.ffn_up_exps.weight.counts", [1, 2, 3, 4, 5, 5]),
    ],
  });
}

function write(name: string, content: string | Uint8Array): string {
  const file = path.join(folder, name);
  writeFileSync(file, content);
  return file;
}

describe("vLLM's routed experts", () => {
  test.each([
    ["vllm-routed-experts.npy", promptRows, 2],
    ["vllm-requests.npz", bothRows, 4],
    ["vllm-stored.npz", promptRows, 2],
    ["vllm-response.json", bothRows, 4],
  ])("%s", async (file, expected, tokens) => {
    const { panel, rows, format, notes } = await run(file);
    expect(format).toBe("vllm");
    expect(rows).toEqual(expected);
    expect(panel).toMatchObject({ tokens, numExpertsPerToken: 2, numExperts: 4, layers: [0, 1] });
    expect(notes.join()).toMatch(/number of experts.*Layers are counted/);
  });

  test("JSON Lines, a bare list, safetensors", async () => {
    const response = readFileSync(path.join(traces, "vllm-response.json"), "utf8").replaceAll("\n", "");
    expect((await run(write("two.jsonl", `${response}\n\n${response}\n`))).rows).toEqual(
      bothRows.map((row) => row.map((count) => 2 * count)),
    );
    expect((await run(write("bare.json", "[[[0, 1]], [[2, 1]]]"))).rows).toEqual([[1, 2, 1]]);
    const file = path.join(folder, "ids.safetensors");
    const ids = { dtype: "I32", shape: [2, 1, 2], data: Int32Array.of(3, 0, 3, 1) } as const;
    await writeSafetensorsFile(file, new Map([["request-1", ids]]));
    expect((await run(file)).rows).toEqual([[1, 1, 0, 2]]);
  });

  test("the checkpoint gives layers and experts their numbers", async () => {
    // deepseek_v3's golden: layer 0 dense, layers 1 and 2 with 16 experts of which a token uses 2.
    const { panel, rows, notes } = await run("vllm-routed-experts.npy", {
      checkpoint: goldenCheckpoint("deepseek_v3"),
    });
    expect(notes).toEqual([]);
    expect(panel.layers).toEqual([1, 2]);
    expect(rows).toEqual(promptRows.map((row) => [...row, ...new Array<number>(12).fill(0)]));
    expect(panel.neverUsed.filter(([layer]) => layer === 1).length).toBe(13);
  });

  test("an axis over all decoder layers loses the dense ones", async () => {
    const ids = JSON.stringify([
      [
        [0, 0],
        [4, 5],
        [6, 7],
      ],
    ]);
    const { panel, rows } = await run(write("all-layers.json", ids), { checkpoint: goldenCheckpoint("deepseek_v3") });
    expect(panel.layers).toEqual([1, 2]);
    expect(rows.map((row) => row.flatMap((count, expert) => (count === 1 ? [expert] : [])))).toEqual([
      [4, 5],
      [6, 7],
    ]);
  });
});

describe("SGLang's expert distribution", () => {
  test("ranks add up; a rank that repeats another counts once", async () => {
    const ranks = path.join(folder, "ranks");
    mkdirSync(ranks);
    const rank = (r: number, time: string) => `expert_distribution_rank${r}_timestamp${time}.csv`;
    for (const name of [rank(0, "1744347750.372"), rank(1, "1744347750.006")]) {
      copyFileSync(path.join(traces, name), path.join(ranks, name));
    }
    const { panel, rows, notes } = await run(ranks, { numExpertsPerToken: 2 });
    expect(panel.layers).toEqual([1, 2]);
    expect(rows).toEqual([
      [6, 7, 1, 4],
      [3, 0, 15, 0],
    ]);
    expect(panel).toMatchObject({ tokens: 9, numExpertsPerToken: 2 });
    expect(notes.join()).not.toMatch(/same counts/);

    const first = readFileSync(path.join(traces, rank(0, "1744347750.372")), "utf8");
    const [header, ...lines] = first.trim().split("\n");
    writeFileSync(path.join(ranks, rank(2, "3")), [header, ...lines.reverse()].join("\r\n"));
    const again = await run(ranks, { numExpertsPerToken: 2 });
    expect(again.rows).toEqual(rows);
    expect(again.notes.join()).toMatch(/1 of 3 ranks hold the same counts/);
  });

  test("logical_count: steps are summed, dense layers left out, no expert guessed", async () => {
    const { panel, rows, format, notes } = await run("sglang-logical_count.npy", { numExpertsPerToken: 2 });
    expect(format).toBe("sglang");
    expect(panel.layers).toEqual([1]);
    expect(rows).toEqual([[4, 2, 0, 6]]);
    expect(panel.tokens).toBe(6);
    expect(notes).toEqual([]);
    const json = write("counts.json", '{"rank": 0, "logical_count": [[1, 0, 3]]}');
    expect((await run(json, { numExpertsPerToken: 1 })).rows).toEqual([[1, 0, 3]]);
  });
});

describe("the recorder's .pt files", () => {
  test("stat: logical_count of a real file", async () => {
    const { panel, rows, format, notes } = await run("expert_distribution_recorder_0.pt", { numExpertsPerToken: 4 });
    expect(format).toBe("sglang");
    expect(notes).toEqual([]);
    expect(panel).toMatchObject({ numExperts: 32, layers: [0, 1, 2, 3, 4, 5] });
    // Its only storage lies uncompressed behind the name data/0, padded to 64 bytes: int64 [3 steps, 6 layers, 32 experts].
    const bytes = readFileSync(path.join(traces, "expert_distribution_recorder_0.pt"));
    const from = 64 * Math.ceil((bytes.indexOf("data/0") + "data/0".length) / 64);
    const count = (step: number, layer: number, expert: number): number =>
      Number(bytes.readBigInt64LE(from + 8 * ((step * 6 + layer) * 32 + expert)));
    const layers = Array.from({ length: 6 }, (_, layer) =>
      Array.from({ length: 32 }, (_unused, e) => count(0, layer, e) + count(1, layer, e) + count(2, layer, e)),
    );
    expect(rows).toEqual(layers);
  });

  test("a folder of them adds up, equal ones count once, other models do not mix", async () => {
    const one = "expert_distribution_recorder_0.pt";
    const many = path.join(folder, "recorders");
    mkdirSync(many);
    const into = (file: string, name: string) => copyFileSync(path.join(traces, file), path.join(many, name));
    into(one, "a_0.pt");
    into(one, "a_1.pt");
    writeFileSync(path.join(many, "notes.txt"), "");
    const alone = await run(one, { numExpertsPerToken: 4 });
    const twice = await run(many, { numExpertsPerToken: 4 });
    expect(twice.rows).toEqual(alone.rows);
    expect(twice.notes).toEqual(["1 of 2 ranks hold the same counts as another and are counted once"]);
    // One more token of expert 0 in step 0 and layer 0: another interval of the same server.
    const bytes = readFileSync(path.join(traces, one));
    const from = 64 * Math.ceil((bytes.indexOf("data/0") + "data/0".length) / 64);
    bytes.writeBigInt64LE(bytes.readBigInt64LE(from) + 1n, from);
    writeFileSync(path.join(many, "b_0.pt"), bytes);
    const added = await run(many, { format: "sglang", numExpertsPerToken: 1 });
    expect(added.rows).toEqual(alone.rows.map((row, l) => row.map((count, e) => 2 * count! + (l + e === 0 ? 1 : 0))));
    into("sglang-records.pt", "c_0.pt");
    await expect(run(many)).rejects.toThrow(/"c_0.pt" counts 3 experts, "a_0.pt" 32; give files of one model/);
    await expect(run(many, { format: "vllm" })).rejects.toThrow(
      /is a folder of SGLang's recorder, which is no trace of/,
    );
  });

  test("per_pass: records of physical experts, mapped to logical ones", async () => {
    const { rows, format } = await run("sglang-records.pt", { numExpertsPerToken: 1 });
    expect(format).toBe("sglang");
    expect(rows).toEqual([
      [11, 22, 33],
      [44 + 66, 55, 0],
    ]);
  });
});

describe("arrays in base64", () => {
  /** SGLang: int32 alone, 4 prompt tokens and 2 answered ones, of which the last was only sampled. */
  const ids = Int32Array.from({ length: 5 * 3 * 2 }, (_, i) => (Math.floor(i / 2) % 3 === 0 ? 0 : (i * 7) % 4));
  const sglang = (more: object) =>
    JSON.stringify({ text: "x", meta_info: { routed_experts: Buffer.from(ids.buffer).toString("base64"), ...more } });
  const counted = [1, 2].map((layer) => {
    const row = [0, 0, 0, 0];
    ids.forEach((id, i) => (row[id]! += Number(Math.floor(i / 2) % 3 === layer)));
    return row;
  });

  test("vLLM: a .npy file, the same as the file itself", async () => {
    const { format, rows, panel } = await run("vllm-response-base64.json");
    const json = readFileSync(path.join(traces, "vllm-response-base64.json"), "utf8");
    const { choices } = JSON.parse(json) as { choices: { routed_experts: string }[] };
    const plain = await run(write("plain.npy", Buffer.from(choices[0]!.routed_experts, "base64")));
    expect(format).toBe("vllm");
    expect(panel).toMatchObject({ tokens: 20, numExperts: 8, numExpertsPerToken: 2 });
    expect(rows).toEqual(plain.rows);
    expect((await run(write("lines.jsonl", `${json.trim()}\n${json}`))).panel.tokens).toBe(40);
  });

  test.each<[string, object, Partial<ImportTraceRequest>]>([
    ["its checkpoint gives the shape", {}, { checkpoint: goldenCheckpoint("deepseek_v3") }],
    [
      "its tokens and the experts a token give it",
      { prompt_tokens: 4, completion_tokens: 2 },
      { numExpertsPerToken: 2 },
    ],
  ])("SGLang: %s", async (_, more, request) => {
    const { format, rows, panel } = await run(write("sglang.json", sglang(more)), request);
    expect(format).toBe("sglang");
    expect(panel).toMatchObject({ tokens: 5, layers: [1, 2] });
    expect(rows.map((row) => row.slice(0, 4))).toEqual(counted);
  });

  test.each<[string, string, Partial<ImportTraceRequest>, RegExp]>([
    ["no base64", '{"routed_experts": "a b"}', {}, /is a string, but not base64/],
    ["neither .npy nor int32", '{"routed_experts": "AAAA"}', {}, /base64 of 3 bytes/],
    ["no shape", sglang({}), {}, /without a shape; give the checkpoint/],
    [
      "another shape",
      sglang({ prompt_tokens: 3, completion_tokens: 5 }),
      { numExpertsPerToken: 2 },
      /do not divide into 7 x 2/,
    ],
  ])("refused: %s", async (_, json, request, message) => {
    await expect(run(write("refused.json", json), request)).rejects.toMatchObject({
      code: "trace/invalid",
      message: expect.stringMatching(message) as unknown,
    });
  });
});

describe("llama.cpp's importance matrix", () => {
  test("counts of experts, tokens from the router's own count", async () => {
    const file = write("imatrix.gguf", imatrix());
    const { panel, rows, format } = await run(file);
    expect(format).toBe("imatrix");
    expect(panel.layers).toEqual([2, 3]);
    expect(rows).toEqual([
      [10, 0, 5, 5, 15, 5],
      [1, 2, 3, 4, 5, 5],
    ]);
    expect(panel).toMatchObject({ tokens: 20, numExpertsPerToken: 2, neverUsed: [[2, 1]] });
  });

  test("the old form is told apart and refused with what to do", async () => {
    const name = Buffer.from("blk.0.ffn_down_exps.weight");
    const legacy = Buffer.concat([u32(1), u32(name.length), name, u32(1), u32(2), floats(1, 1), u32(1), u32(0)]);
    await expect(run(write("imatrix.dat", legacy))).rejects.toMatchObject({
      code: "trace/invalid",
      message: expect.stringMatching(/--output-format gguf/) as unknown,
    });
  });
});

test("what a trace does not hold has no value, in the file, the panels and the runs list", async () => {
  const { panel, runDirectory } = await run("vllm-routed-experts.npy");
  const { layers, meanRoutingWeight } = panel.byDomain[""]!;
  expect(layers[0]).toMatchObject({ selectedMass: null, topKMargin: null, tokenEntropy: null, neverUsed: 1 });
  expect(layers[0]!.coefficientOfVariation).toBeCloseTo(Math.sqrt(0.5), 12);
  expect(new Set(meanRoutingWeight.values)).toEqual(new Set([null]));
  expect(await similarityPanel(runDirectory, {})).toBeNull();

  const file = path.join(runDirectory, "routing-statistics.safetensors");
  const statistics = await loadRoutingStatistics(file);
  const [layer] = statistics.layers;
  expect([...layer!.missing!]).toEqual(statisticsFields.filter((name) => !["tokens", "frequency"].includes(name)));
  expect([...layer!.routingWeightSum].every(Number.isNaN)).toBe(true);
  const again = path.join(folder, "again.safetensors");
  await saveRoutingStatistics(again, statistics);
  expect(readFileSync(again).equals(readFileSync(file))).toBe(true);

  const listed = (await listRuns(path.dirname(runDirectory))).find(({ directory }) => directory === runDirectory);
  expect(listed).toMatchObject({ name: "Trace vllm-routed-experts.npy", state: "done" });
  await expect(run("vllm-response.json", { runDirectory })).rejects.toMatchObject({ code: "output/not-empty" });
});

describe("what is refused", () => {
  const v3 = { checkpoint: goldenCheckpoint("deepseek_v3") };
  const zip = readFileSync(path.join(traces, "vllm-requests.npz"));
  const csv = (line: string) => `layer_id,expert_id,count\n${line}\n`;
  const rows: [string, () => string, Partial<ImportTraceRequest>, RegExp][] = [
    ["floats", () => "floats.npy", {}, /"<f4", expected integers/],
    ["columns first", () => "columns.npy", {}, /ascontiguousarray/],
    [
      "a cut array",
      () => write("cut.npy", readFileSync(path.join(traces, "vllm-routed-experts.npy")).subarray(0, 140)),
      {},
      /needs 24 bytes, the file has 12/,
    ],
    ["a cut archive", () => write("cut.npz", zip.subarray(0, zip.length - 30)), {}, /no end record/],
    [
      "a broken archive",
      () => write("broken.npz", Buffer.concat([zip.subarray(0, 60), Buffer.alloc(60), zip.subarray(120)])),
      {},
      /cannot be unpacked|lies outside|cannot be read/,
    ],
    ["a pickle", () => write("counts.pt", "\x80\x02}q\x00."), {}, /torch\.save/],
    ["a .pt that would run code", () => "hostile.pt", {}, /asks for "posix system".*numpy\.save/],
    ["a .pt whose tensor lies outside its storage", () => "outside.pt", {}, /\[2, 2\] lies outside its storage/],
    [
      "a cut .pt",
      () => write("cut.pt", readFileSync(path.join(traces, "expert_distribution_recorder_0.pt")).subarray(0, 3000)),
      {},
      /file of torch\.save: it has no end record/,
    ],
    ["anything else", () => write("a.txt", "hello"), {}, /none of the traces/],
    ["an empty file", () => write("empty.csv", ""), {}, /none of the traces/],
    ["another format than said", () => "vllm-response.json", { format: "imatrix" }, /no trace of the format imatrix/],
    ["two dimensions", () => write("flat.json", '{"routed_experts": [[1, 2]]}'), {}, /different lengths|nested lists/],
    ["uneven rows", () => write("uneven.json", "[[[0, 1]], [[2]]]"), {}, /different lengths/],
    ["words", () => write("words.json", '[[[0, 1]], [["x", 1]]]'), {}, /no number/],
    ["negative ids", () => write("negative.json", "[[[0, -7]]]"), {}, /holds -7/],
    ["ids beyond any model", () => write("large.json", "[[[0, 70000]]]"), {}, /holds 70000/],
    ["counts taken for ids", () => write("counts2.json", "[[[3, 1, 3]]]"), {}, /3, 1, 3 in layer 0.*--format sglang/],
    ["only cached positions", () => write("cached.json", "[[[-1, -1]]]"), {}, /no token/],
    ["no ids", () => write("none.json", '{"choices": []}'), {}, /holds no routed experts/],
    ["broken JSON Lines", () => write("broken.jsonl", '{"a": 1}\n{'), {}, /line 2/],
    ["a CSV row of text", () => write("row.csv", csv("1,2,many")), { numExpertsPerToken: 1 }, /line 2 .*"1,2,many"/],
    ["a CSV of one line", () => write("one.csv", csv("")), { numExpertsPerToken: 1 }, /holds no counts/],
    ["sums without experts a token", () => "sglang-logical_count.npy", {}, /--experts-per-token/],
    ["more experts a token than experts", () => "sglang-logical_count.npy", { numExpertsPerToken: 9 }, /cannot use 9/],
    [
      "an expert that the checkpoint has not",
      () => write("far.json", "[[[0, 1], [2, 16]]]"),
      v3,
      /expert 16 of layer 2.*0 to 15/,
    ],
    [
      "layers that the checkpoint has not",
      () => write("deep.json", `[[${new Array(9).fill("[0, 1]").join()}]]`),
      v3,
      /9 layers, the checkpoint 2 sparse/,
    ],
    ["a dense layer", () => write("dense.csv", csv("0,1,2")), v3, /layer 0, which is no Mixture/],
    [
      "an imatrix without experts",
      () => write("plain.gguf", ggufBytes({ metadata: [["general.type", { string: "imatrix" }]] })),
      {},
      /no counts of experts/,
    ],
    ["a model in GGUF", () => write("model.gguf", ggufBytes({})), {}, /general.type = null/],
    ["NaN counts", () => write("nan.gguf", imatrix([1, NaN, 1, 1, 1, 1])), {}, /no count/],
  ];
  test.each(rows)("%s", async (_, file, more, message) => {
    await expect(run(file(), more)).rejects.toMatchObject({
      code: "trace/invalid",
      message: expect.stringMatching(message) as unknown,
    });
  });

  test("a hostile archive does not fill the memory", async () => {
    // The central directory claims four gigabytes for a few bytes.
    const hostile = Buffer.from(zip);
    const entry = hostile.indexOf(Buffer.from("PK\x01\x02", "latin1"));
    hostile.writeUInt32LE(0xffff_fff0, entry + 24);
    await expect(run(write("hostile.npz", hostile))).rejects.toMatchObject({ code: "trace/invalid" });
  });

  test("mutated files end in a typed error or a result", async () => {
    const sources = ["vllm-requests.npz", "vllm-routed-experts.npy", "vllm-response.json", "sglang-records.pt"];
    let seed = 7;
    for (let i = 0; i < 200; i++) {
      const name = sources[i % sources.length]!;
      const bytes = Buffer.from(readFileSync(path.join(traces, name)));
      for (let n = 0; n < 3; n++) {
        seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
        bytes[seed % bytes.length] = seed >>> 8;
      }
      const end = await run(write(`mutated-${name}`, bytes)).then(
        () => "read",
        (error: unknown) => (error as { code?: string }).code,
      );
      expect(end).toMatch(/^(read|trace\/invalid)$/);
    }
  });
});

test("the command prints what was imported, and its notes apart", async () => {
  let out = "";
  let err = "";
  const io = {
    out: (t: string) => (out += t),
    err: (t: string) => (err += t),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd: traces,
  };
  const target = path.join(folder, "by-command");
  expect(await runCli(["import-trace", "vllm-response.json", "--out", target], io)).toBe(0);
  expect(out).toMatch(/4 tokens of a trace of vllm: 4 experts, 2 a token[\s\S]*layer[\s\S]*Run folder: /);
  expect(err).toMatch(/note: The number of experts/);
  expect(await runCli(["import-trace", "floats.npy", "--out", `${target}-2`], io)).toBe(2);
  expect(err).toMatch(/error trace\/invalid: .*expected integers/);
});
