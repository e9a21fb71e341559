/** Recipes in the editor: lenses, hover, hints and completion, in files and in what is not saved yet; and agents that start them. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import { formatNats } from "../../src/extension/quantities";
import { until } from "./codeServer";
import { openFromExplorer } from "./explorer";
import { finishedRun, sampleWorkspace, small, writeRecipe } from "./finishedRun";
import { appears, click } from "./pointer";
import { probeCommand, probePackage } from "./probeExtension";
import { openWindow, type Session } from "./session";
import { quickInput, runCommand } from "./workbench";

const runMs = 300_000;
const run = "2026-01-01_first";
let session: Session;
const inWorkspace = (...parts: string[]) => path.join(session.workspace, ...parts);
const runsFolder = () => inWorkspace(".reroute", "runs");
const editor = () => session.page.locator(".editor-instance .monaco-editor").filter({ visible: true }).first();
const lenses = () => editor().locator(".codelens-decoration a");
const suggestions = () => session.page.locator(".suggest-widget.visible .monaco-list-row");

beforeAll(async () => {
  const fill = async (workspace: string) => {
    sampleWorkspace(workspace);
    await finishedRun(workspace, run, "reap", small);
    writeRecipe(workspace, "agent", "frequency", { ...small, epochs: 1 });
  };
  const settings = { "editor.hover.enabled": "on", "editor.hover.delay": 86_400_000, "editor.minimap.enabled": false };
  session = await openWindow("recipes", fill, { settings, others: [await probePackage()] });
}, runMs);
afterAll(() => session?.close());

/** Puts the cursor behind the first `text` of the editor. */
async function cursorBehind(text: string): Promise<void> {
  const { page } = session;
  await editor().locator(".view-lines").first().click();
  await page.keyboard.press("Control+f");
  const find = page.locator(".find-widget.visible textarea").first();
  await find.waitFor();
  await find.fill(text);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  await page.keyboard.press("ArrowRight");
}

/** Labels that are proposed where the cursor is. */
async function completed(wanted: string): Promise<string[]> {
  const { page } = session;
  let labels: string[] = [];
  await until(async () => {
    await page.keyboard.press("Control+Space");
    await appears(suggestions().first(), 5000);
    labels = (await suggestions().locator(".label-name").allTextContents()).map((label) => label.trim());
    if (labels.some((label) => label.includes(wanted))) return true;
    await page.keyboard.press("Escape");
    return false;
  }, 120_000);
  await page.keyboard.press("Escape");
  return labels;
}

describe("a recipe in the editor", () => {
  it("has lenses that run and check it, and say how it went the last time", async () => {
    const { page } = session;
    await openFromExplorer(page, "reap.reroute.json");
    const { before, after, comparison } = JSON.parse(
      readFileSync(path.join(runsFolder(), run, "evaluation.json"), "utf8"),
    ) as EvaluationFile;
    const kl = `KL ${formatNats(before!.klToTeacher!)} → ${formatNats(after!.klToTeacher!)}`;
    await lenses().filter({ hasText: kl }).waitFor();
    let shown: string[] = [];
    // They are taken away and come again while the file's problems are looked for.
    await until(async () => {
      shown = (await lenses().allTextContents()).map((text) => text.trim());
      return shown.length === 3;
    });
    expect(shown).toEqual(["Run", "Check before running", expect.stringContaining(comparison!.verdict)]);
    await session.screenshot("1-lenses");
    await click(lenses().filter({ hasText: "Last verdict" }));
    await page.getByRole("tab", { name: /Report: fine reap/ }).waitFor();
    await runCommand(page, "View: Close Editor");
    await openFromExplorer(page, "reap.reroute.json");
  });

  it("says how many experts a share keeps of this checkpoint", async () => {
    await editor().locator(".view-line", { hasText: "0.375" }).filter({ hasText: "12 of 32" }).waitFor();
  });

  it("explains the method under the cursor, and what its keep means", async () => {
    const { page } = session;
    await cursorBehind('"reap');
    await runCommand(page, "Show or Focus Hover");
    const hover = page.locator(".monaco-hover", { hasText: "smallest routing weight times output norm" });
    await hover.filter({ hasText: "loads in transformers" }).first().waitFor();
    await session.screenshot("2-hover");
    await page.keyboard.press("Escape");
  });
});

describe("a recipe that is not saved yet", () => {
  it("has lenses, problems, paths and the method's options by name", async () => {
    const { page } = session;
    await runCommand(page, "Reroute: New Recipe...");
    await quickInput(page).asksFor("What should the recipe do?");
    await quickInput(page).choose("Compress and calibrate");
    await page.getByRole("tab", { name: /calibrate\.reroute\.json/ }).waitFor();
    await lenses().filter({ hasText: "Check before running" }).waitFor();
    // There is no folder of the template's name.
    await editor().locator(".squiggly-error").first().waitFor();
    await cursorBehind('"teacher": "');
    expect(await completed("fine/")).toEqual(expect.arrayContaining(["fine/", "texts/"]));
    await cursorBehind('"reap"');
    await page.keyboard.type(', "options": { "');
    expect(await completed("budget")).toEqual(expect.arrayContaining(["budget", "fitness", "population"]));
    await page.keyboard.type('budget": "');
    expect(await completed("evoesap")).toEqual(expect.arrayContaining(['"uniform"', '"grape"', '"evoesap"']));
    await session.screenshot("3-untitled");
    await runCommand(page, "View: Revert and Close Editor");
  });
});

describe("an agent", () => {
  interface Answer {
    name: string;
    tools: string[];
    text?: string;
    error?: string;
  }
  const ask = async (name: string, input: object) => {
    rmSync(inWorkspace("answer.json"), { force: true });
    writeFileSync(inWorkspace("call.json"), JSON.stringify({ name: `reroute_${name}`, input }));
    await runCommand(session.page, probeCommand);
  };
  const answered = async (): Promise<Answer> => {
    let answer: Answer | null = null;
    await until(() => {
      if (!existsSync(inWorkspace("answer.json"))) return false;
      answer = JSON.parse(readFileSync(inWorkspace("answer.json"), "utf8")) as Answer;
      return true;
    }, runMs);
    return answer!;
  };
  const call = async (name: string, input: object): Promise<unknown> => {
    await ask(name, input);
    const { text, error } = await answered();
    expect(error).toBeUndefined();
    return JSON.parse(text!);
  };

  it(
    "inspects, checks and reads runs by the extension's tools",
    async () => {
      expect(await call("inspect_checkpoint", { path: inWorkspace("fine") })).toMatchObject({ supported: true });
      expect(await call("check_recipe", { recipe: inWorkspace("agent.reroute.json") })).toMatchObject({ refusals: [] });
      const runs = (await call("list_runs", { runsFolder: runsFolder() })) as { runs: { name: string }[] };
      expect(runs.runs.map(({ name }) => name)).toEqual(["fine reap 12 of 32"]);
      const evaluation = await call("read_evaluation", { runDirectory: path.join(runsFolder(), run) });
      expect(evaluation).toMatchObject({ comparison: { metric: "klToTeacher" } });
    },
    runMs,
  );

  it(
    "starts nothing that is not confirmed, and what is",
    async () => {
      const { page } = session;
      const dialog = page.locator(".monaco-dialog-box");
      const recipe = inWorkspace("agent.reroute.json");
      await ask("start_run", { recipe });
      await dialog.filter({ hasText: "It may take hours, and writes its run folder and output." }).waitFor();
      expect(await dialog.textContent()).toContain(recipe);
      await session.screenshot("4-confirmation");
      await page.keyboard.press("Escape");
      expect((await answered()).error).toMatch(/cancel/i);
      expect(readdirSync(runsFolder())).toEqual([run]);

      await ask("start_run", { recipe });
      await dialog.waitFor();
      await click(dialog.getByRole("button", { name: "Yes" }));
      const { runDirectory } = JSON.parse((await answered()).text!) as { runDirectory: string };
      expect(path.dirname(runDirectory)).toBe(runsFolder());
      const isDone = async () => {
        const status = (await call("run_status", { runDirectory })) as { stages: { id: string; state: string }[] };
        return status.stages.length > 0 && status.stages.every(({ state }) => state === "done" || state === "skipped");
      };
      await until(isDone, runMs);
    },
    2 * runMs,
  );
});

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
