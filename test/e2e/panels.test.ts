/** Every panel of finished runs: its numbers against the files, exports, selection, themes, accessibility. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { MetricsLine } from "../../src/protocol/metrics";
import { seriousFindings } from "../support/axe";
import { until } from "./codeServer";
import { chooseFromMenu, closeMenu, contextMenu, explorerItem } from "./explorer";
import { agrees, cellsOf, headerOf, numberOf, parseCsv, tableOf } from "./figures";
import { copyOfRun, finishedRun, sampleWorkspace, small } from "./finishedRun";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { readTensors, type Tensor } from "./tensorFile";
import {
  acceptSave,
  changeTheme,
  closeQuickInput,
  pageInState,
  quickInput,
  runCommand,
  showContainer,
  showEditor,
} from "./workbench";

let session: Session;
let run: string;
let otherRun: string;
let statistics: Map<string, Tensor>;
let evaluation: EvaluationFile;
let metrics: MetricsLine[];
const layers = 6;
const experts = 32;
const readJson = (file: string): unknown => JSON.parse(readFileSync(file, "utf8"));

beforeAll(async () => {
  session = await openWindow(
    "panels",
    async (workspace) => {
      sampleWorkspace(workspace);
      run = await finishedRun(workspace, "2026-01-01_00-00-00_fine-reap", "reap", small);
      otherRun = copyOfRun(run, "2026-01-02_00-00-00_copy", "copy of fine reap", 1.3);
      statistics = readTensors(path.join(run, "routing-statistics.safetensors"));
      evaluation = readJson(path.join(run, "evaluation.json")) as EvaluationFile;
      metrics = readFileSync(path.join(run, "metrics.jsonl"), "utf8")
        .split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line) as MetricsLine);
    },
    {
      settings: { "explorer.autoReveal": false },
    },
  );
}, 600_000);
afterAll(() => session?.close());

/** Opens a panel of the reap run and waits until it is drawn. */
async function open(title: string, view: string): Promise<Frame> {
  const { page } = session;
  await runCommand(page, `Reroute: Open ${title}`);
  if (view !== "tradeOff") {
    const picker = quickInput(page);
    await picker.asksFor("Which run?");
    await picker.choose("fine reap 12 of 32");
  }
  return pageInState(page, view);
}

async function exported(frame: Frame, figure: string, kind: "CSV" | "PNG"): Promise<Buffer> {
  await click(frame.locator(`[data-figure=${figure}] button:text-is("${kind}")`));
  const file = await acceptSave(session.page, kind.toLowerCase());
  expect(path.dirname(file)).toBe(session.workspace);
  await until(() => existsSync(file) && readFileSync(file).length > 0);
  return readFileSync(file);
}

/** Every cell of a heatmap's export, and those of its table that are in sight. */
function exportedCells(csv: Buffer) {
  const { header, rows } = parseCsv(csv.toString());
  return cellsOf(header, rows);
}
async function shownCells(frame: Frame, figure: string) {
  const rows = await tableOf(frame, figure);
  const cells = cellsOf(await headerOf(frame, figure), rows);
  expect(cells.length).toBeGreaterThan(100);
  return cells;
}

const field = (layer: number, name: string): number[] => {
  const { shape, values } = statistics.get(`layers.${layer}.${name}`)!;
  if (shape.length < 2 || name === "logitGram") return values;
  // Summed over the domains, the first axis.
  const [domains, columns] = shape as [number, number];
  return Array.from({ length: columns }, (_, e) =>
    Array.from({ length: domains }, (_, d) => values[d * columns + e]!).reduce((a, b) => a + b, 0),
  );
};
const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);

describe("numbers on screen and in exports are those of the run folder", () => {
  it("Routing: utilisation of every layer and expert", async () => {
    const frame = await open("Routing", "routing");
    const shares = Array.from({ length: layers }, (_, layer) => {
      const frequency = field(layer, "frequency");
      return frequency.map((n) => n / sum(frequency));
    });
    const saved = exportedCells(await exported(frame, "utilisation", "CSV"));
    expect(saved).toHaveLength(layers * experts);
    for (const { row, column, text } of saved) expect(Number(text)).toBeCloseTo(shares[row]![column]!, 12);
    for (const { row, column, text } of await shownCells(frame, "utilisation"))
      expect(agrees(text, shares[row]![column]!), `layer ${row} expert ${column}: ${text}`).toBe(true);
    const mass = await tableOf(frame, "entropy");
    mass.forEach(([layer, , selected]) => {
      const l = Number(layer);
      expect(agrees(selected!, sum(field(l, "selectedMassSum")) / sum(field(l, "tokens"))), `mass ${l}`).toBe(true);
    });
    expect(mass).toHaveLength(layers);
  });

  it("Divergence: KL of every layer and teacher expert, before and after", async () => {
    const frame = await open("Divergence", "divergence");
    const saved = exportedCells(await exported(frame, "kl", "CSV"));
    expect(saved).toHaveLength(layers * experts);
    for (const { row, column, text } of saved) {
      const expected = evaluation.after!.routing![row]!.klByExpert[column] ?? null;
      expect(text === "" ? null : Number(text)).toBe(expected);
    }
    for (const { row, column, text } of await shownCells(frame, "kl"))
      expect(agrees(text, evaluation.after!.routing![row]!.klByExpert[column] ?? NaN), `${row} ${column} ${text}`).toBe(
        true,
      );
    const byLayer = await tableOf(frame, "routingKl");
    expect(byLayer).toHaveLength(layers);
    byLayer.forEach(([, before, after], layer) => {
      expect(agrees(before!, evaluation.before!.routing![layer]!.routingKl)).toBe(true);
      expect(agrees(after!, evaluation.after!.routing![layer]!.routingKl)).toBe(true);
    });
  });

  it("Similarity: cosines of router logits, from the Gram matrix", async () => {
    const frame = await open("Similarity", "similarity");
    const gram = field(0, "logitGram");
    const cosine = (i: number, j: number) =>
      gram[i * experts + j]! / Math.sqrt(gram[i * experts + i]! * gram[j * experts + j]!);
    const saved = exportedCells(await exported(frame, "similarity", "CSV"));
    expect(saved).toHaveLength(experts ** 2);
    expect(new Set(saved.map(({ row, column }) => row * experts + column)).size).toBe(experts ** 2);
    for (const { row, column, text } of saved) expect(Number(text)).toBeCloseTo(cosine(row, column), 12);
    for (const { row, column, text } of await shownCells(frame, "similarity"))
      expect(agrees(text, cosine(row, column)), `${row} ${column} ${text}`).toBe(true);
  });

  it("Router KD: every update and held-out look", async () => {
    const frame = await open("Router KD", "calibration");
    const rows = await tableOf(frame, "loss");
    const at = new Map(rows.map((row) => [Number(row[0]), row]));
    const updates = metrics.filter((line) => line.kind === "update").slice(0, 12);
    expect(updates.length).toBeGreaterThan(0);
    for (const { step, loss } of updates) expect(agrees(at.get(step)![1]!, loss), `update ${step}`).toBe(true);
    const looks = metrics.filter((line) => line.kind === "held-out").filter(({ step }) => at.has(step));
    expect(looks.length).toBeGreaterThan(0);
    for (const { step, kl } of looks) expect(agrees(at.get(step)![2]!, kl), `look ${step}`).toBe(true);
    const { verdict } = evaluation.comparison!;
    expect(await frame.textContent("[data-verdict]")).toContain(`Verdict: ${verdict}`);
  });

  it("Trade-off: teacher, before and after of both runs", async () => {
    const frame = await open("Trade-off", "tradeOff");
    const rows = await tableOf(frame, "tradeOff");
    // Both runs measured the same teacher: it is one point.
    expect(rows.map((row) => row[1]).sort()).toEqual(["after", "after", "before", "before", "teacher"]);
    for (const folder of [run, otherRun]) {
      const { name } = readJson(path.join(folder, "run.json")) as { name: string };
      const of = readJson(path.join(folder, "evaluation.json")) as EvaluationFile;
      for (const stage of ["teacher", "before", "after"] as const) {
        const row = rows.find((r) => (stage === "teacher" ? r[1] === stage : r[0]!.startsWith(`${name}: ${stage}`)))!;
        const model = of[stage]!;
        expect(agrees(row[3]!, model.klToTeacher ?? 0), `${name} ${stage} ${row[3]}`).toBe(true);
        const unit = { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 }[row[2]!.split(" ")[1]!]!;
        expect(agrees(String(numberOf(row[2]!.split(" ")[0]!) * unit), model.cost.bytes)).toBe(true);
      }
    }
  });
});

describe("exports", () => {
  it("a PNG holds the pixels of the canvas, with a title", async () => {
    const frame = await open("Similarity", "similarity");
    const png = await exported(frame, "similarity", "PNG");
    expect(png.subarray(1, 4).toString()).toBe("PNG");
    const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
    const drawn: { width: number; height: number; pixels: { x: number; y: number; colour: number[] }[] } =
      await frame.evaluate(`(() => {
        const canvas = document.querySelector("[data-figure=similarity] canvas:not(.overlay)");
        const pen = canvas.getContext("2d");
        const points = Array.from({ length: 60 }, (_, i) => ({
          x: Math.round(canvas.width * (0.15 + 0.011 * i)),
          y: Math.round(canvas.height * (0.15 + ((i * 37) % 60) / 100)),
        }));
        const pixels = points.map(({ x, y }) => ({ x, y, colour: [...pen.getImageData(x, y, 1, 1).data] }));
        return { width: canvas.width, height: canvas.height, pixels: pixels.filter(({ colour }) => colour[3] === 255) };
      })()`);
    const left = (width - drawn.width) / 2;
    const top = height - drawn.height - left;
    expect(left).toBeGreaterThan(0);
    expect(top).toBeGreaterThan(left);
    expect(new Set(drawn.pixels.map(({ colour }) => colour.join())).size).toBeGreaterThan(10);
    const wanted = drawn.pixels.map(({ x, y }) => [Math.round(x + left), Math.round(y + top)]);
    const found = await session.page.evaluate(`(async () => {
      const bytes = Uint8Array.from(atob("${png.toString("base64")}"), (c) => c.charCodeAt(0));
      const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
      const canvas = new OffscreenCanvas(image.width, image.height);
      const pen = canvas.getContext("2d");
      pen.drawImage(image, 0, 0);
      return ${JSON.stringify(wanted)}.map(([x, y]) => [...pen.getImageData(x, y, 1, 1).data]);
    })()`);
    expect(found).toEqual(drawn.pixels.map(({ colour }) => colour));
  });

  it("the command saves the numbers behind a panel in full precision", async () => {
    const { page } = session;
    await runCommand(page, "Reroute: Export Data");
    const picker = quickInput(page);
    await picker.choose("fine reap 12 of 32");
    await picker.choose("Router KD");
    const file = await acceptSave(page, "csv");
    await until(() => existsSync(file));
    const { rows } = parseCsv(readFileSync(file, "utf8"));
    const losses = rows.filter(([kind]) => kind === "update").map(([, , loss]) => Number(loss));
    expect(losses).toEqual(metrics.filter((line) => line.kind === "update").map(({ loss }) => loss));
  });
});

describe("panels work together", () => {
  it("an expert selected by keyboard in Routing is selected in Divergence and Similarity", async () => {
    const { page } = session;
    await open("Divergence", "divergence");
    await runCommand(page, "View: Move Editor into Right Group");
    await open("Routing", "routing");
    const routing = await pageInState(page, "routing");
    const divergence = await pageInState(page, "divergence");
    const plot = routing.locator("[data-figure=utilisation] .plot-frame");
    // Each key goes to the plot: the other page may take the focus while it is drawn.
    for (const key of ["ArrowRight", "ArrowDown", "ArrowDown", "ArrowRight", "Enter"]) await plot.press(key);
    const selected = await plot.getAttribute("data-selected");
    expect(selected).toMatch(/^[1-9]\d*,[1-9]\d*$/);
    await until(
      async () =>
        (await divergence.getAttribute("[data-figure=kl] .plot-frame", "data-selected").catch(() => null)) === selected,
    );
    await session.screenshot("selection");
    const similarity = await open("Similarity", "similarity");
    const layer = Number(selected!.split(",")[0]);
    await similarity.locator("h2", { hasText: `layer ${layer}` }).waitFor();
  });
});

const themes = [
  ["light", "Light Modern", "vscode-light"],
  ["high-contrast", "Dark High Contrast", "vscode-high-contrast"],
  ["high-contrast-light", "Light High Contrast", "vscode-high-contrast-light"],
  ["dark", "Dark Modern", "vscode-dark"],
] as const;
const panels = [
  ["Router KD", "calibration"],
  ["Routing", "routing"],
  ["Divergence", "divergence"],
  ["Similarity", "similarity"],
  ["Trade-off", "tradeOff"],
] as const;

describe("themes and accessibility in the real webviews", () => {
  it("every panel is redrawn when the theme changes, without serious axe findings", async () => {
    const { page } = session;
    await runCommand(page, "View: Close All Editors");
    await showContainer(page, "Reroute");
    await pageInState(page, "overview");
    for (const [title, view] of panels) await open(title, view);
    for (const [name, label, bodyClass] of themes) {
      const before = await canvasOf(await pageInState(page, "tradeOff"));
      await changeTheme(page, label);
      const shown = await pageInState(page, "tradeOff");
      await shown.locator(`body.${bodyClass}`).waitFor();
      await until(async () => (await canvasOf(shown)) !== before);
      for (const [title, view] of panels) {
        await showEditor(page, title);
        const frame = await pageInState(page, view);
        await frame.locator(`body.${bodyClass}`).waitFor();
        await until(async () => (await frame.locator(".plot-frame canvas").count()) > 0);
        await session.screenshot(`${view}-${name}`);
        expect(await seriousFindings(frame), `${view} ${name}`).toEqual([]);
      }
      expect(await seriousFindings(await pageInState(page, "overview")), `overview ${name}`).toEqual([]);
    }
  });

  it("panels stay readable in a narrow column", async () => {
    const { page } = session;
    await page.setViewportSize({ width: 760, height: 900 });
    for (const [title, view] of panels) {
      await showEditor(page, title);
      const frame = await pageInState(page, view);
      await until(async () => (await frame.locator(".plot-frame canvas").count()) > 0);
      await session.screenshot(`${view}-narrow`);
      const overflow = await frame.evaluate("document.documentElement.scrollWidth - innerWidth");
      expect(overflow, view).toBeLessThanOrEqual(0);
    }
    await page.setViewportSize({ width: 1440, height: 960 });
  });
});

/** What the first chart shows, as text, to see that it changed. */
function canvasOf(frame: Frame): Promise<string> {
  return frame.evaluate(`document.querySelector(".plot-frame canvas")?.toDataURL() ?? ""`);
}

describe("a student that carries provenance", () => {
  it("is calibrated without a question about its teacher", async () => {
    const { page } = session;
    await page.locator(".activitybar .action-item").first().waitFor();
    await runCommand(page, "View: Show Explorer");
    await explorerItem(page, "fine-reap-calibrated").waitFor();
    expect(await contextMenu(page, "fine-reap-calibrated")).toContain("Calibrate Router");
    await closeMenu(page);
    const wizard = quickInput(page);
    const asked = wizard.title.filter({ hasText: "Calibrate router of fine-reap-calibrated" });
    await chooseFromMenu(page, "fine-reap-calibrated", "Calibrate Router", asked);
    await wizard.asks("Calibrate router of fine-reap-calibrated (1/5)", "Which text");
    await session.screenshot("provenance");
    await closeQuickInput(page);
  });
});

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.external).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
