import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CliIo } from "../../src/cli/io";
import { runCli } from "../../src/cli/program";
import { progressPrinter } from "../../src/cli/progress";
import { safeText, textTable } from "../../src/cli/table";
import { writeSafetensorsFile } from "../../src/engine/checkpoint/safetensorsFile";

const root = path.join(__dirname, "../..");
const mixtral = path.join(root, "test/fixtures/goldens/mixtral/checkpoint");
const coarse = path.join(root, "test/fixtures/coarse");
const text = path.join(root, "media/sample/evaluation.jsonl");
let cwd = "";
beforeAll(async () => {
  cwd = await mkdtemp(path.join(tmpdir(), "cli-"));
  await mkdir(path.join(cwd, "full"));
  await writeFile(path.join(cwd, "full/file"), "mine");
  await writeFile(path.join(cwd, "bad.json"), "{");
  // A checkpoint that says it was calibrated on the text.
  await cp(coarse, path.join(cwd, "trained"), { recursive: true });
  const read = { path: text, sha256: null, sequences: 4, sequenceLength: 16, packing: "packed" };
  const provenance = {
    schemaVersion: 1,
    reroute: "0",
    kind: "calibrated",
    teacher: { path: coarse, fingerprint: "f" },
  };
  const none = { student: null, plan: null, recipe: null, seed: 1, versions: {}, metrics: {} };
  await writeFile(
    path.join(cwd, "trained/reroute.json"),
    JSON.stringify({ ...provenance, ...none, trainedOn: [read] }),
  );
  const [kept, few] = [[0, 2, 3, 5], [0]];
  const plan = (ids: number[]) => ({
    schemaVersion: 1,
    paradigm: "pruning",
    method: "manual",
    layers: Object.fromEntries([0, 1, 2].map((l) => [l, { kept: ids }])),
  });
  await writeFile(path.join(cwd, "plan.json"), JSON.stringify(plan(kept)));
  await writeFile(path.join(cwd, "few.json"), JSON.stringify(plan(few)));
  const ids = (value: bigint) => ({ dtype: "I64", shape: [1, 2], data: BigInt64Array.of(1n, value) }) as const;
  await writeSafetensorsFile(path.join(cwd, "ids.safetensors"), new Map([["input_ids", ids(2n)]]));
  await writeSafetensorsFile(path.join(cwd, "far.safetensors"), new Map([["input_ids", ids(99999n)]]));
  await writeSafetensorsFile(path.join(cwd, "none.safetensors"), new Map([["ids", ids(1n)]]));
  await writeFile(
    path.join(cwd, "recipe.reroute.json"),
    JSON.stringify({ schemaVersion: 1, teacher: coarse, data: { calibration: text, typo: 1 }, output: "o" }),
  );
  await writeFile(
    path.join(cwd, "measured.reroute.json"),
    JSON.stringify({ schemaVersion: 1, teacher: coarse, data: { calibration: text }, output: "o" }),
  );
  await writeFile(
    path.join(cwd, "tight.reroute.json"),
    JSON.stringify({
      schemaVersion: 1,
      teacher: coarse,
      data: { calibration: text },
      compress: { keep: 0.1 },
      output: "o",
      memory: "1MiB",
    }),
  );
});
afterAll(() => rm(cwd, { recursive: true }));

async function run(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const result = { code: -1, out: "", err: "" };
  const io: CliIo = {
    out: (t) => (result.out += t),
    err: (t) => (result.err += t),
    isTerminal: false,
    columns: 80,
    signal: new AbortController().signal,
    cwd,
  };
  result.code = await runCli(argv, io);
  return result;
}

describe("refused with exit code 2 and a code on stderr", () => {
  const rows: [string, string[], RegExp][] = [
    ["no command", [], /^error arguments\/invalid: name a command/],
    ["an unknown command", ["compres"], /arguments\/invalid: unknown command 'compres'/],
    ["an unknown option", ["inspect", mixtral, "--jsn"], /unknown option '--jsn'/],
    ["a missing argument", ["inspect"], /missing required argument/],
    ["a missing required option", ["profile", mixtral, "--out", "x"], /--data/],
    ["no such checkpoint", ["inspect", "nowhere"], /^error checkpoint\/not-found: /],
    [
      "a sequence of one token",
      ["profile", coarse, "--data", text, "--out", "p", "--sequence-length", "1"],
      /at least 2/,
    ],
    [
      "a word for a number",
      ["calibrate", coarse, "--teacher", coarse, "--data", text, "--out", "o", "--learning-rate", "fast"],
      /Give a number/,
    ],
    [
      "a negative learning rate",
      ["calibrate", coarse, "--teacher", coarse, "--data", text, "--out", "o", "--learning-rate", "-1"],
      /calibrate.learningRate/,
    ],
    [
      "a student that says nothing of its teacher",
      ["calibrate", coarse, "--data", text, "--out", "o"],
      /has no reroute\.json that says what it was made from; name its teacher with --teacher/,
    ],
    [
      "a student whose reroute.json names its teacher, up to what else is wrong",
      ["calibrate", "trained", "--data", text, "--out", "o", "--learning-rate", "-1"],
      /calibrate.learningRate/,
    ],
    ["a strange memory size", ["evaluate", coarse, "--data", text, "--memory", "lots"], /memory.*8GiB/],
    ["a method with a typing error", ["compress", mixtral, "--method", "reep", "--out", "o"], /Did you mean reap\?/],
    ["an unknown method", ["compress", mixtral, "--method", "magic", "--out", "o"], /magic.*reap/s],
    ["a method without its text", ["compress", mixtral, "--out", "o"], /reap needs calibration text.*--data/],
    [
      "an option of no method",
      ["compress", mixtral, "--method", "mobe", "--set", "magic=1", "--out", "o"],
      /mobe.*magic/,
    ],
    [
      "keep below top-k",
      ["compress", mixtral, "--method", "random", "--keep", "0.1", "--out", "o"],
      /^error plan\/invalid: .*selects 2/,
    ],
    [
      "keep above all",
      ["compress", mixtral, "--method", "random", "--keep", "9", "--out", "o"],
      /^error plan\/invalid/,
    ],
    [
      "a multiple that drops nothing",
      ["compress", mixtral, "--method", "random", "--keep", "7", "--multiple-of", "4", "--out", "o"],
      /^error plan\/invalid: .*nearest multiple of 4 is 8, which drops none/,
    ],
    [
      "a multiple of a method that drops nothing",
      ["compress", mixtral, "--method", "svd", "--multiple-of", "4", "--out", "o"],
      /^error arguments\/invalid: .*svd keeps every expert.*leave --multiple-of out/,
    ],
    ["no multiple", ["compress", mixtral, "--multiple-of", "0", "--out", "o"], /whole number of at least 1/],
    [
      "a multiple where nothing is compressed",
      ["run", "measured.reroute.json", "--multiple-of", "4"],
      /^error arguments\/invalid: .*compresses nothing/,
    ],
    [
      "a recipe whose multiple cannot be met",
      ["run", "tight.reroute.json", "--multiple-of", "7"],
      /^error plan\/invalid: .*nearest multiple of 7 is 0/,
    ],
    [
      "a plan that is no JSON",
      ["compress", mixtral, "--plan", "bad.json", "--out", "o"],
      /^error plan\/invalid: .*not JSON/,
    ],
    [
      "a plan below top-k",
      ["compress", mixtral, "--plan", "few.json", "--out", "o"],
      /^error plan\/invalid: .*keeps 1 experts/,
    ],
    [
      "a folder that is not empty",
      ["compress", mixtral, "--method", "random", "--out", "full"],
      /^error output\/not-empty/m,
    ],
    ["a text that was trained on", ["evaluate", "trained", "--data", text], /^error data\/trained-on: .* --force/],
    ["a missing text", ["profile", coarse, "--data", "nothing.txt", "--out", "p"], /^error data\/not-found/],
    ["a recipe that is no JSON", ["run", "bad.json"], /^error recipe\/invalid/],
    ["a recipe with a typing error", ["run", "recipe.reroute.json"], /^error recipe\/invalid: .*data.*typo/s],
    ["a recipe that cannot work", ["run", "tight.reroute.json"], /^error plan\/invalid/],
    [
      "ids under another name",
      ["forward", mixtral, "--input", "none.safetensors", "--output", "x"],
      /input_ids as I64/,
    ],
    [
      "ids beyond the vocabulary",
      ["forward", mixtral, "--input", "far.safetensors", "--output", "x"],
      /^error data\/token-out-of-range/,
    ],
    [
      "an output file that exists",
      ["forward", mixtral, "--input", "ids.safetensors", "--output", "bad.json"],
      /^error output\/not-empty/,
    ],
  ];
  it.each(rows)("%s", async (_name, argv, message) => {
    const { code, out, err } = await run(...argv);
    expect(err).toMatch(message);
    expect(code).toBe(2);
    expect(out).toBe("");
  });

  it("and nothing is written", async () => {
    expect((await readdir(cwd)).filter((name) => ["o", "p", "x", ".reroute"].includes(name))).toEqual([]);
    expect(await readdir(path.join(cwd, "full"))).toEqual(["file"]);
  });
});

describe("commands without onnxruntime", () => {
  it("help and version", async () => {
    expect((await run("--help")).out).toMatch(/inspect.*compress.*forward/s);
    expect(await run("--version")).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) as string,
    });
    expect((await run("calibrate", "--help")).out).toMatch(/--learning-rate.*--held-out/s);
  });

  it("inspect, for people and as JSON", async () => {
    expect((await run("inspect", mixtral)).out).toMatch(/Family\s+mixtral.*layer 2\s+8 experts/s);
    const summary = JSON.parse((await run("inspect", mixtral, "--json")).out) as {
      layers: unknown[];
      modelType: string;
    };
    expect(summary).toMatchObject({ modelType: "mixtral" });
    expect(summary.layers.length).toBe(3);
  });

  it("compress by weights alone, and again by the plan it wrote, to the same bytes", async () => {
    const { code, out, err } = await run(
      "compress",
      mixtral,
      "--method",
      "aimer",
      "--keep",
      "0.625",
      "--out",
      "aimer",
      "--json",
    );
    expect(code).toBe(0);
    expect(err).toMatch(/^warning: 5 experts a layer .* cannot place them. --multiple-of 8 /m);
    const result = JSON.parse(out) as { parametersBefore: number; parametersAfter: number };
    // Three layers lose three of eight experts of 3 * 24 * 32 weights, and their router rows.
    expect(result.parametersBefore - result.parametersAfter).toBe(3 * 3 * (3 * 24 * 32 + 32));
    const { plan } = JSON.parse(await readFile(path.join(cwd, "aimer/reroute.json"), "utf8")) as { plan: object };
    await writeFile(path.join(cwd, "again.json"), JSON.stringify(plan));
    expect((await run("compress", mixtral, "--plan", "again.json", "--out", "again")).code).toBe(0);
    const read = (name: string) => readFile(path.join(cwd, name, "model.safetensors"));
    expect((await read("again")).equals(await read("aimer"))).toBe(true);
    const config = JSON.parse(await readFile(path.join(cwd, "again/config.json"), "utf8")) as object;
    expect(config).toMatchObject({ num_local_experts: 5, num_experts: 5 });
  });

  it("evaluate with --force says what share of the text was trained on", async () => {
    const evaluate = ["evaluate", "trained", "--data", text, "--sequences", "1", "--sequence-length", "16", "--force"];
    expect((await run(...evaluate)).out).toMatch(/Perplexity.*\n100 % of the evaluation text was trained on/s);
    const { out, err } = await run(...evaluate, "--json", "--run", "evaluation");
    expect(JSON.parse(out)).toMatchObject({ tokens: 15, trainedOn: 1 });
    expect(await readdir(path.join(cwd, "evaluation"))).toContain("evaluation.json");
    expect(err).toMatch(/^warning: The evaluation text .* is the calibration text itself/m);
  });

  it("compress by hand", async () => {
    expect((await run("compress", mixtral, "--plan", "plan.json", "--out", "hand")).out).toMatch(
      /Parameters.*->.*Written/s,
    );
    expect((await run("inspect", "hand")).out).toMatch(/Made from.*compressed by manual.*layer 0\s+4 experts/s);
  });

  it("a dry run prints what would be refused", async () => {
    const { code, out, err } = await run("run", "tight.reroute.json", "--dry-run");
    expect(code).toBe(2);
    expect(out).toMatch(/would be refused: plan\/invalid.*would be refused: preflight\/memory/s);
    expect(err).toMatch(/^error plan\/invalid/);
  });

  it("a dry run refuses a provider that cannot load, with the way out and without onnxruntime's own lines", async () => {
    const provider = process.platform === "win32" ? "coreml" : "directml";
    const recipe = {
      ...{ schemaVersion: 1, teacher: coarse, output: "o", provider },
      data: { calibration: text, sequences: 2, sequenceLength: 32 },
    };
    await writeFile(path.join(cwd, "provider.reroute.json"), JSON.stringify(recipe));
    const { code, out, err } = await run("run", "provider.reroute.json", "--dry-run");
    expect(code).toBe(2);
    expect(err).toMatch(
      /^error runtime\/provider: The execution provider \w+ cannot be used on this machine: .*--provider/,
    );
    expect(out).toMatch(/would be refused: runtime\/provider: .*choose cpu/);
    expect(out + err).not.toMatch(/onnxruntime_src|\.cc:|ERR:/);
  });

  it("cancellation has its own exit code", async () => {
    const abort = new AbortController();
    abort.abort();
    let said = "";
    const io: CliIo = {
      out: () => undefined,
      err: (part) => (said += part),
      isTerminal: false,
      columns: 80,
      signal: abort.signal,
      cwd,
    };
    expect(await runCli(["compress", mixtral, "--method", "aimer", "--out", "never here"], io)).toBe(130);
    expect(said).toBe(`cancelled; continue with: reroute compress ${mixtral} --method aimer --out 'never here'\n`);
  });
});

describe("printing", () => {
  it("a terminal gets one line that is redrawn, a log a line now and then", () => {
    const print = (isTerminal: boolean): string => {
      let err = "";
      let now = 0;
      const io: CliIo = {
        out: () => undefined,
        err: (t) => (err += t),
        isTerminal,
        columns: 200,
        signal: new AbortController().signal,
        cwd,
      };
      const { report, end } = progressPrinter(io, () => now);
      for (let done = 0; done <= 40; done++, now++) {
        report({
          stage: "profile",
          message: "Profiling",
          done,
          total: 40,
          unit: "tokens",
          rate: 1,
          remainingSeconds: 40 - done,
        });
      }
      end();
      return err;
    };
    const terminal = print(true);
    expect(terminal.split("\r").length).toBe(42);
    expect(terminal).toContain("[############------------]  50 %, 1.0 tokens/s, 20 s left");
    expect(terminal.endsWith("\n")).toBe(true);
    expect(print(false).trim().split("\n").length).toBe(5);
  });

  it.each([
    [undefined, "20 s left"],
    [{ share: 0.25, remainingSeconds: 90 }, "1 min 30 s left"],
    [{ share: 0.25 }, "20 s left of this pass"],
  ])("what is left is the run's, %o, or said to be the pass's", (run, left) => {
    let err = "";
    const { signal } = new AbortController();
    const io = { out: () => 0, err: (text: string) => (err += text), isTerminal: false, columns: 200, signal, cwd };
    const pass = { stage: "profile", message: "Profiling", done: 20, total: 40, unit: "tokens", rate: 1 } as const;
    progressPrinter(io).report({ ...pass, remainingSeconds: 20, ...(run ? { run } : {}) });
    expect(err.trim().split(", ").at(-1)).toBe(left);
  });

  it("names from files cannot write to the terminal", () => {
    expect(safeText("a\u001b[2Jb\u202ec\n")).toBe("a\\u001b[2Jb\\u202ec\\u000a");
    expect(
      textTable([
        ["a", "1"],
        ["bcd", "22"],
      ]),
    ).toBe("a     1\nbcd  22\n");
  });
});
