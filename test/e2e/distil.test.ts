/** Distil Into a Smaller Model, with the real engine: a student is built, taught and measured, and its figures are drawn. */
import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { DistillationFile } from "../../src/protocol/distillation";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { RunFile } from "../../src/protocol/run";
import { seriousFindings } from "../support/axe";
import { until } from "./codeServer";
import { chooseFromRow, treeRows } from "./explorer";
import { agrees, parseCsv, tableOf } from "./figures";
import { sampleWorkspace } from "./finishedRun";
import { notification } from "./notifications";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { acceptSave, pageInState, quickInput, runCommand, showContainer, summaryPage } from "./workbench";

/** Building, or teaching by 24 short sequences, on two cores that other work shares. */
const workMs = 400_000;
let session: Session;
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const readJson = (...names: string[]): unknown => JSON.parse(readFileSync(path.join(...names), "utf8"));
const readRun = (run: string) => readJson(run, "run.json") as RunFile;
const readFigures = (folder: string) => readJson(folder, "distillation.json") as DistillationFile;

beforeAll(async () => {
  session = await openWindow("distil", sampleWorkspace);
}, 600_000);
afterAll(() => session?.close());

async function exported(frame: Frame, figure: string, kind: "CSV" | "PNG"): Promise<Buffer> {
  await click(frame.locator(`[data-figure=${figure}] button:text-is("${kind}")`));
  const file = await acceptSave(session.page, kind.toLowerCase());
  await until(() => existsSync(file) && readFileSync(file).length > 0);
  return readFileSync(file);
}

/** A figure of lines: its table, and its CSV, hold the series' points; its PNG is one. */
async function holds(frame: Frame, figure: string, x: number[], columns: number[][]): Promise<void> {
  const rows = await tableOf(frame, figure);
  expect(rows.map(([first]) => Number(first))).toEqual(x);
  const csv = parseCsv((await exported(frame, figure, "CSV")).toString());
  // Columns of ± stand between them.
  const places = csv.header.flatMap((name, i) => (i > 0 && !name.includes("±") ? [i] : []));
  expect(places).toHaveLength(columns.length);
  for (const [c, at] of places.entries()) {
    const column = columns[c]!;
    expect(csv.rows.map((row) => Number(row[at]))).toEqual(column.map((value) => expect.closeTo(value, 12) as number));
    for (const [i, row] of rows.entries()) expect(agrees(row[at]!, column[i]!), `${row[at]} of row ${i}`).toBe(true);
  }
  const png = await exported(frame, figure, "PNG");
  expect(png.subarray(1, 4).toString()).toBe("PNG");
}

/** The run of the first test. */
let taught = "";

it(
  "builds a dense student, teaches it with a student-aware router, and says how far it came",
  async () => {
    const { page } = session;
    const wizard = quickInput(page);
    await runCommand(page, "Reroute: Distil Into a Smaller Model...");
    await wizard.asksFor("Which checkpoint?");
    await wizard.choose("fine");
    await wizard.asks("(1/8)", "Which smaller model should learn from fine?");
    await session.screenshot("1-student");
    await wizard.choose("Build a dense student");
    await wizard.asks("(2/9)", "Which experts they are is measured on the text");
    await wizard.choose("Of 4 experts a layer");
    await wizard.asks("(3/9)", "How should it be taught?");
    await session.screenshot("2-teaching");
    // 32 experts instead of 4, three times a pass.
    await wizard.rows.filter({ hasText: "× 24" }).first().waitFor();
    await wizard.choose("sar");
    await wizard.asks("(4/9)", "Which sequences should it learn on?");
    await wizard.choose("The text");
    await wizard.asks("(5/9)", "Which text");
    await wizard.choose("calibration.jsonl");
    await wizard.asks("(6/9)", "Which held-out text");
    await wizard.choose("evaluation.jsonl");
    await wizard.asks("(7/9)", "How much of the text");
    await wizard.choose("Another amount");
    await wizard.asks("(7/9)", "Sequences x tokens");
    await wizard.type("24 x 64");
    await wizard.accept();
    await wizard.asks("(8/9)", "");
    await wizard.choose("fine-distilled-sar");
    const { text, press } = await summaryPage(page);
    for (const words of [
      "built of 4 experts a layer, chosen by reap",
      "divergence reverse, all experts of the teacher active, its router copies trained with the student",
      "24 sequences",
      "evaluation.jsonl",
      "fine-distilled-sar",
      "Time",
      "Memory",
    ])
      expect(text).toContain(words);
    await session.screenshot("3-summary");
    await press("Start");
    let run = "";
    await until(() => {
      const [newest] = existsSync(runsFolder()) ? readdirSync(runsFolder()).sort().reverse() : [];
      if (newest === undefined || !existsSync(path.join(runsFolder(), newest, "run.json"))) return false;
      run = path.join(runsFolder(), newest);
      return readRun(run).stages.every(({ state }) => state === "done" || state === "skipped");
    }, workMs);
    taught = run;
    expect(readRun(run).recipe).toMatchObject({
      student: { build: { experts: 4 } },
      calibrate: { divergence: "reverse", scope: "all", teacherRouting: { kind: "student-aware" } },
    });
    const { comparison } = readJson(run, "evaluation.json") as EvaluationFile;
    const said = (await (await notification(page, "KL to the teacher")).textContent())!;
    expect(said).toContain(`${comparison!.before.toPrecision(3)} before, ${comparison!.after.toPrecision(3)} after`);
    await page.keyboard.press("Escape");

    // Figure 5, from the file that this run wrote.
    await runCommand(page, "Reroute: Open Distillation");
    // Of the only run, without a question.
    const frame = await pageInState(page, "distillation");
    const { routerKl } = readFigures(run);
    expect(routerKl!.evaluations.at(-1)!.kl.every((value) => value > 0)).toBe(true);
    await holds(
      frame,
      "routers-that-trained-with-the-student",
      routerKl!.layers,
      routerKl!.evaluations.map(({ kl }) => kl),
    );
    await session.screenshot("4-routers");
    expect(await seriousFindings(frame)).toEqual([]);
    await runCommand(page, "View: Close All Editors");
  },
  3 * workMs,
);

it(
  "draws gate mass, quality by active experts and students by draws from a comparison's file",
  async () => {
    const { page, workspace } = session;
    const folder = path.join(runsFolder(), "arms");
    const cli = (...args: string[]) => promisify(execFile)(process.execPath, ["dist/cli.js", ...args]);
    const evaluation = path.join(workspace, "texts", "evaluation.jsonl");
    const size = ["--sequences", "8", "--sequence-length", "64"];
    const student = path.join(taught, "compressed");
    await cli(
      ...["probe-experts", path.join(workspace, "fine"), "--data", evaluation, ...size],
      ...["--student", student, "--active", "2,4,32", "--out", folder],
    );
    const questions = ["In the beginning", "And God said"].map((instruction) => ({
      instruction,
      response: "the earth",
    }));
    writeFileSync(path.join(workspace, "questions.jsonl"), questions.map((row) => `${JSON.stringify(row)}\n`).join(""));
    const recipe = path.join(workspace, "arms.compare.reroute.json");
    const augment = (draws: number) => ({ kind: "augment", lambda: 0.05, draws });
    writeFileSync(
      recipe,
      JSON.stringify({
        ...{ schemaVersion: 1, name: "fine taught", teacher: "fine", student: { build: { experts: 4 } } },
        data: {
          ...{ calibration: "texts/calibration.jsonl", evaluation: "texts/evaluation.jsonl" },
          ...{ sequences: 16, evaluationSequences: 8, sequenceLength: 64 },
        },
        score: { data: "questions.jsonl", seeds: [1, 2], maxNewTokens: 8 },
        calibrate: { scope: "all", learningRate: 1e-3, heldOut: 0, keepStep: "last", divergence: "reverse" },
        grid: {
          arms: [
            { name: "reverse" },
            { name: "all", teacherRouting: { kind: "active" } },
            { name: "ka 1", teacherRouting: augment(1) },
            { name: "ka 2", teacherRouting: augment(2) },
          ],
        },
      }),
    );
    await cli("compare", recipe, "--dir", folder);
    await showContainer(page, "Reroute");
    const row = treeRows(page, "Runs").filter({ hasText: "fine taught" });
    await row.waitFor();
    await chooseFromRow(row, "Open Distillation", () =>
      pageInState(page, "distillation").then(
        () => true,
        () => false,
      ),
    );
    const frame = await pageInState(page, "distillation");
    const { probe, arms } = readFigures(folder);
    const { gateMass, rows } = probe!;
    await holds(
      frame,
      "gate-mass-by-layer",
      gateMass.map(({ layer }) => layer),
      [
        gateMass.map(({ activated }) => activated),
        gateMass.map(({ activated, sorted }) => sorted.reduce((sum, mass) => sum + mass, 0) - activated),
      ],
    );
    await session.screenshot("5-gate-mass");
    await holds(
      frame,
      "quality-by-active-experts",
      [2, 4, 32],
      [
        rows.map(({ loss }) => loss.mean),
        rows.map(({ klToOwn }) => klToOwn.mean),
        rows.map((row) => row.klOfStudent!.mean),
      ],
    );
    await session.screenshot("6-active");
    const table = await tableOf(frame, "students-by-how-they-were-taught");
    expect(table.map(([name]) => name)).toEqual(["untrained", "reverse", "all", "ka 1", "ka 2"]);
    const draws = arms!.arms.filter(({ routing }) => routing === "augment");
    await holds(
      frame,
      "students-by-draws-of-knowledge-augmentation",
      [1, 2],
      [draws.map(({ klToTeacher }) => klToTeacher.mean)],
    );
    await holds(frame, "rouge-l-by-draws-of-knowledge-augmentation", [1, 2], [draws.map(({ rougeL }) => rougeL!.mean)]);
    await frame.locator("[data-figure=rouge-l-by-draws-of-knowledge-augmentation]").scrollIntoViewIfNeeded();
    await session.screenshot("7-draws");
    expect(session.pageErrors).toEqual([]);
    expect(session.external).toEqual([]);
  },
  3 * workMs,
);
