import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { escapeHtml, intervalNote } from "../../../src/engine/report/format";
import { heatmapSvg, lineChartSvg } from "../../../src/engine/report/charts";
import { comparisonTable } from "../../../src/engine/report/comparisonTable";
import { numberDefinitions } from "../../../src/engine/report/definitions";
import {
  calibrationPanel,
  divergencePanel,
  listRuns,
  routingPanel,
  similarityPanel,
  tradeOffPanel,
} from "../../../src/engine/report/panels";
import { writeReport } from "../../../src/engine/report/writeReport";
import { stageTable } from "../../../src/engine/run/stages";
import { startRun } from "../../../src/engine/run/startRun";
import { evaluationFile } from "../../../src/protocol/evaluation";
import { recipeSchema } from "../../../src/protocol/recipe";
import { fakeWork } from "../run/fakeWork";

const meanOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
const hostile = `<img src=x onerror="alert(1)"> \`|*‮`;
let folder = "";
let runDirectory = "";
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "report-"));
  runDirectory = path.join(folder, "runs", "one");
  const text = "the quick brown fox jumps over the lazy dog and runs far away from here ".repeat(6);
  const lines = Array.from({ length: 40 }, () => text).map((t, i) =>
    JSON.stringify({ text: t, domain: i % 2 === 0 ? "law" : hostile }),
  );
  await writeFile(path.join(folder, "text.jsonl"), lines.join("\n"));
  // A verdict needs 20 documents or sequences.
  const short = Array.from({ length: 40 }, (_, i) => JSON.stringify({ text: text.slice(i, i + 25).toUpperCase() }));
  await writeFile(path.join(folder, "evaluation.jsonl"), short.join("\n"));
  const recipe = recipeSchema.parse({
    schemaVersion: 1,
    name: hostile,
    teacher: path.join(__dirname, "../../fixtures/coarse"),
    data: {
      calibration: "text.jsonl",
      evaluation: "evaluation.jsonl",
      sequences: 8,
      evaluationSequences: 24,
      sequenceLength: 32,
    },
    compress: { keep: 0.625 },
    calibrate: { heldOut: 0.25 },
    output: "out",
  });
  const machinery = { stages: stageTable(writeReport), work: fakeWork() };
  await startRun(machinery, { runDirectory, recipe, baseFolder: folder }, { signal: new AbortController().signal });
});
afterAll(() => rm(folder, { recursive: true }));

describe("report.html", () => {
  it("loads nothing, runs nothing, and shows hostile names as text", async () => {
    const html = await readFile(path.join(runDirectory, "report.html"), "utf8");
    expect(html).not.toMatch(/<(script|link|img|iframe|object|embed)\b|@import|url\(|<[^>]+ (src|href|on\w+)=/i);
    expect(html).toContain(escapeHtml("<img src=x"));
    expect(html).toContain("default-src 'none'");
  });

  it("shows the numbers of evaluation.json and the verdict", async () => {
    const html = await readFile(path.join(runDirectory, "report.html"), "utf8");
    const evaluation = evaluationFile.parse(
      JSON.parse(await readFile(path.join(runDirectory, "evaluation.json"), "utf8")),
    );
    for (const model of [evaluation.teacher!, evaluation.before!, evaluation.after!])
      expect(html).toContain(model.nllPerToken.toFixed(4));
    expect(html).toContain(evaluation.after!.klToTeacher!.toFixed(4));
    expect(html).toMatch(/Recovered: KL to the teacher went from/);
    for (const { name } of numberDefinitions) expect(html).toContain(escapeHtml(name));
  });

  it("shows no interval where the text is one document", async () => {
    const file = evaluationFile.parse(JSON.parse(await readFile(path.join(runDirectory, "evaluation.json"), "utf8")));
    const none = (estimate: { mean: number; halfWidth95: number }) => ({ ...estimate, halfWidth95: 0 });
    const { uncertainty } = file.after!;
    const after = { ...file.after!, uncertainty: { ...uncertainty, nllPerToken: none(uncertainty.nllPerToken) } };
    const loss = comparisonTable({ ...file, after })!.rows.find(({ label }) => label === "Loss")!.cells;
    expect(loss[1]).toMatch(/^\d\.\d{4} ± 0\.0100$/);
    expect(loss[2]).toBe(file.after!.nllPerToken.toFixed(4));
    const { sequences } = file.data;
    const note = (units: number[]) => intervalNote({ data: { ...file.data, perSequence: { tokens: units, units } } });
    expect(note(Array.from({ length: sequences }, () => 0))).toBe("They are one document, so there is no interval.");
    expect(note(Array.from({ length: sequences }, (_, i) => i % 2))).toContain(
      "± is half of the 95 % bootstrap interval",
    );
  });

  it("puts the figures of each checkpoint in its column, as they are written by hand", async () => {
    const file = evaluationFile.parse(JSON.parse(await readFile(path.join(runDirectory, "evaluation.json"), "utf8")));
    const { teacher, before, after } = file;
    const models = [teacher!, before!, after!];
    const cost = {
      ...after!.cost,
      tokensPerSecond: 1234,
      tokensPerSecondQuartiles: [1000, 1_500_000] as [number, number],
      ...{ bitsPerWeight: 4.5, expertBitsPerWeight: 4.25 },
    };
    const even = (coefficientOfVariation: number, dead: number) => ({ coefficientOfVariation, dead });
    const routing = [
      { exactSet: 0.5, load: { totalVariation: 0.1, teacher: even(0.5, 0), student: even(1, 1) } },
      { exactSet: 0.7, load: { totalVariation: 0.3, teacher: even(0.7, 1), student: even(1.5, 2) } },
    ].map((rest, layer) => ({ layer, routingKl: 0, l1: 0, topKOverlap: 1, klByExpert: [], ...rest }));
    const table = comparisonTable({ ...file, after: { ...after!, cost, routing } })!;
    const cells = Object.fromEntries(table.rows.map(({ label, cells: row }) => [label, row]));
    const same = (text: string) => [text, text, text];
    expect(table.columns).toEqual(["Teacher", "Before calibration", "After calibration"]);
    expect(cells).toEqual({
      Parameters: same("1.00 M"),
      "Active parameters": same("400 k"),
      Size: same("1.91 MiB"),
      "Bits a weight": ["–", "–", "4.5"],
      "Bits a weight of experts": ["–", "–", "4.25"],
      FLOPs: same("800 k"),
      Loss: models.map(({ perSequence: { nll } }) => `${meanOf(nll).toFixed(4)} ± 0.0100`),
      Perplexity: models.map(({ perSequence: { nll } }) => Math.exp(meanOf(nll)).toFixed(2)),
      "KL to the teacher": ["–", ...[before!, after!].map((m) => `${meanOf(m.perSequence.kl!).toFixed(4)} ± 0.0050`)],
      "Top-1 agreement": ["–", "90 %", "90 %"],
      // Means over both layers; experts without a token are counted.
      "Exact selection": ["–", "–", "60 %"],
      "Utilisation moved": ["–", "–", "20 %"],
      "Coefficient of variation": ["–", "–", "1.25 (teacher 0.6)"],
      "Dead experts": ["–", "–", "3 (teacher 1)"],
      Speed: ["5.00 k", "5.00 k", "1.23 k (1.00 k to 1.50 M)"],
      "Peak memory": same("286 MiB"),
    });
  });

  it("has a Markdown twin whose tables hostile names cannot break", async () => {
    const markdown = await readFile(path.join(runDirectory, "report.md"), "utf8");
    expect(markdown).toMatch(/Recovered: KL/);
    expect(markdown.split("\n")[0]).toContain("\\<img");
    const rows = markdown.split("\n").filter((line) => line.startsWith("| Loss"));
    expect(rows[0]!.split("|").length).toBe(6);
  });
});

describe("panel data of a run folder", () => {
  it("routing and similarity", async () => {
    const routing = (await routingPanel(runDirectory))!;
    expect(routing.domains).toContain("law");
    const shares = routing.byDomain[""]!.utilisation;
    const { frequency } = routing.byDomain[""]!;
    const counts = frequency.values.slice(0, frequency.columns).map((count) => count ?? 0);
    // 8 sequences of 32 tokens, each with two experts.
    const selections = 8 * 32 * 2;
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(selections);
    expect(shares.values.slice(0, shares.columns)).toEqual(counts.map((count) => count / selections));
    const similarity = (await similarityPanel(runDirectory, {}))!;
    expect(similarity.dropped.length).toBe(3);
    expect([...similarity.dendrogramOrder].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it("divergence, calibration and trade-off", async () => {
    const divergence = (await divergencePanel(runDirectory))!;
    expect(divergence.before!.byLayer[1]!.routingKl).toBeCloseTo(0.8, 12);
    expect(divergence.mapping).toMatchObject({ kind: "kept" });
    expect(divergence.after!.kl.values[1]).toBeNull();
    const calibration = (await calibrationPanel(runDirectory))!;
    expect(calibration.updates.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
    expect(calibration.bestStep).toBe(4);
    expect(calibration.verdict!.verdict).toBe("recovered");
    const { points } = await tradeOffPanel(path.join(folder, "runs"));
    expect(points.map(({ stage }) => stage)).toEqual(["teacher", "before", "after"]);
  });

  it("the list of runs tells done from interrupted ones and leaves broken folders out", async () => {
    const [run] = await listRuns(path.join(folder, "runs"));
    expect(run).toMatchObject({ id: "one", state: "done", verdict: "recovered" });
    const file = path.join(runDirectory, "run.json");
    const text = await readFile(file, "utf8");
    await writeFile(file, text.replace('"state": "done"', '"state": "running"'));
    expect((await listRuns(path.join(folder, "runs")))[0]!.state).toBe("interrupted");
    await writeFile(file, "{");
    expect(await listRuns(path.join(folder, "runs"))).toEqual([]);
    await writeFile(file, text);
    expect(await listRuns(path.join(folder, "nowhere"))).toEqual([]);
  });
});

describe("charts", () => {
  const options = { title: "<t>", rowNames: ["0"], columnAxis: "x", rowAxis: "y", legend: "l" };
  it("draws one cell for each value, the largest in the last colour", () => {
    const svg = heatmapSvg({ rows: 1, columns: 3, values: [0, null, 2] }, options);
    expect(svg.match(/M\d+ \d+h/g)!.length).toBe(2);
    expect(svg).toContain('class="c23"');
    expect(svg).not.toContain("<t>");
  });
  it("survives empty, flat and single values", () => {
    expect(heatmapSvg({ rows: 0, columns: 0, values: [] }, options)).toContain("<svg");
    expect(lineChartSvg([], { title: "t", xAxis: "x", yAxis: "y" })).toBe("");
    const flat = lineChartSvg([{ name: "n", style: "s0", points: [{ x: 1, y: 5 }] }], {
      title: "t",
      xAxis: "x",
      yAxis: "y",
    });
    expect(flat).not.toMatch(/NaN|Infinity/);
  });
});
