/**
 * A new user's way with an empty profile and a model of a Hugging Face cache: right-click, defaults, verdict, report, a second run
 * beside the first. Its clicks and keys are counted.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { EvaluationFile } from "../../src/protocol/evaluation";
import type { RunFile } from "../../src/protocol/run";
import { verdictWords } from "../../src/protocol/verdict";
import { until } from "./codeServer";
import { chooseFromMenu, treeRows } from "./explorer";
import { answerNotification } from "./notifications";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import {
  activityBarItem,
  chosenRow,
  pageInState,
  quickInput,
  runCommand,
  showContainer,
  showEditor,
  summaryPage,
  tick,
} from "./workbench";

const runMs = 600_000;
let session: Session;
let cacheBefore: string;
const model = "models--acme--fine";
/** As the wizard names it. */
const runName = "acme/fine reap-0.625";
const snapshot = "5f0b02c75b57c5855da9ae460ce51323ea669d8a";
const runsFolder = () => path.join(session.workspace, ".reroute", "runs");
const runs = () => readdirSync(runsFolder()).sort();
const readJson = (run: string, file: string): unknown =>
  JSON.parse(readFileSync(path.join(runsFolder(), run, file), "utf8"));
/** Of a run that may not have its folder yet. */
const isDone = (run: string | undefined) =>
  run !== undefined &&
  existsSync(path.join(runsFolder(), run, "run.json")) &&
  (readJson(run, "run.json") as RunFile).stages.every(({ state }) => state === "done");

beforeAll(async () => {
  session = await openWindow(
    "journey",
    (workspace, { server }) => {
      const cached = path.join(workspace, model);
      mkdirSync(path.join(cached, "refs"), { recursive: true });
      writeFileSync(path.join(cached, "refs", "main"), snapshot);
      cpSync("media/sample/checkpoint", path.join(cached, "blobs"), { recursive: true });
      mkdirSync(path.join(cached, "snapshots", snapshot), { recursive: true });
      for (const blob of readdirSync(path.join(cached, "blobs")))
        symlinkSync(`../../blobs/${blob}`, path.join(cached, "snapshots", snapshot, blob));
      // Where Hugging Face's libraries look by default, in the profile's home.
      const hub = path.join(path.dirname(server.userData), ".cache", "huggingface", "hub");
      mkdirSync(hub, { recursive: true });
      symlinkSync(cached, path.join(hub, "models--acme--again"));
      // Short documents: a verdict needs twenty of them.
      for (const [name, characters] of [
        ["calibration.jsonl", 3000],
        ["evaluation.jsonl", 1500],
      ] as const) {
        const lines = readFileSync(path.join("media/sample", name), "utf8").trimEnd().split("\n").slice(0, 38);
        const short = lines.map((line) => ({ text: (JSON.parse(line) as { text: string }).text.slice(0, characters) }));
        writeFileSync(path.join(workspace, name), short.map((record) => `${JSON.stringify(record)}\n`).join(""));
      }
      cacheBefore = listing(cached);
    },
    { shows: model },
  );
});
afterAll(() => session?.close());

function listing(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .sort()
    .map((name) => `${name} ${statSync(path.join(folder, name)).mtimeMs}`)
    .join("\n");
}

it(
  "takes at most eight clicks and keys from a model's folder to a running calibration, none of them blind",
  async () => {
    const { page } = session;
    const wizard = quickInput(page);
    const asked = wizard.title.filter({ hasText: "Calibrate router of acme/fine" });
    await chooseFromMenu(page, model, "Calibrate Router", asked);
    let actions = 2;
    /** What Enter takes is shown beforehand, and says what it is. */
    const enter = async (part: string, words: string, row: RegExp) => {
      await wizard.asks(part, words);
      await until(async () => row.test(await chosenRow(page)));
      await wizard.accept();
      actions++;
    };
    await enter("(1/", "How should the experts", /^Recommended: reap, keep 20 of 32 experts$/);
    await session.screenshot("1-text");
    await enter("(2/6)", "Which text", /^calibration\.jsonl$/);
    await enter("(3/6)", "Which held-out text", /^evaluation\.jsonl$/);
    await enter("(4/6)", "How much of the text", /^All of this text$/);
    await enter("(5/6)", "Where should the result go", /^fine-reap-0\.625-calibrated$/);
    const { frame, text } = await summaryPage(page);
    await session.screenshot("2-summary");
    for (const choice of [
      "reap, keeping 62.5 %",
      "loads in transformers",
      "calibration.jsonl",
      "evaluation.jsonl",
      "Window",
    ])
      expect(text).toContain(choice);
    await until(() => frame.evaluate(`document.activeElement.textContent === "Start"`));
    await page.keyboard.press("Enter");
    actions++;
    await page.locator(".statusbar-item", { hasText: /calibrate/ }).waitFor({ timeout: runMs });
    expect(actions).toBeLessThanOrEqual(8);
  },
  runMs,
);

it("shows the work on the activity bar, and the cache's models by their names", async () => {
  const { page } = session;
  await activityBarItem(page, "Reroute").locator(".badge-content", { hasText: "1" }).waitFor();
  await showContainer(page, "Reroute");
  await treeRows(page, "Checkpoints").filter({ hasText: "Hugging Face cache" }).waitFor();
  await session.screenshot("3-running");
});

it(
  "ends in a verdict, whose report is a page of the editor",
  async () => {
    const { page } = session;
    await until(() => isDone(runs()[0]), runMs);
    await answerNotification(page, "KL to the teacher", "Open Report");
    await page.getByRole("tab", { name: /Report: acme\/fine reap-0\.625/ }).waitFor();
    const { comparison } = readJson(runs()[0]!, "evaluation.json") as EvaluationFile;
    await until(async () => {
      const texts = await Promise.all(
        page.frames().map((frame) => frame.textContent("body", { timeout: 1000 }).catch(() => "")),
      );
      return texts.some((text) => text?.toLowerCase().includes(verdictWords(comparison!.verdict, undefined)));
    });
    await session.screenshot("4-report");
    expect(listing(path.join(session.workspace, model))).toBe(cacheBefore);
    expect(readdirSync(session.workspace)).toContain("fine-reap-0.625-calibrated");
  },
  runMs,
);

it(
  "is run again beside the first, whose profile is reused, and compared with it",
  async () => {
    const { page } = session;
    await runCommand(page, "Reroute: Run Again");
    await until(() => runs().length === 2);
    await until(() => isDone(runs()[1]), runMs);
    expect(readFileSync(path.join(runsFolder(), runs()[1]!, "log.jsonl"), "utf8")).toContain("profile reused");
    // The same recipe, the same numbers.
    const klOf = (run: string) => (readJson(run, "evaluation.json") as EvaluationFile).after!.klToTeacher;
    expect(klOf(runs()[1]!)).toBe(klOf(runs()[0]!));

    await runCommand(page, "Reroute: Compare Runs...");
    const picker = quickInput(page);
    await picker.asksFor("Which run?");
    await click(picker.rows.first());
    await picker.asksFor("Compare acme/fine");
    await tick(page, [runName]);
    await picker.accept();
    await picker.asksFor("What of these 2 runs?");
    await picker.choose("Divergence");
    await showEditor(page, "Divergence");
    await pageInState(page, "divergence");
    await session.screenshot("5-compared");
  },
  runMs,
);

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.external).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
