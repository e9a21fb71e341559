/** Where models and runs come from: every folder of a workspace with its own settings, dense models, the Hugging Face cache. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { RunFile } from "../../src/protocol/run";
import { until } from "./codeServer";
import { expand, treeRows } from "./explorer";
import { sampleWorkspace } from "./finishedRun";
import { notification } from "./notifications";
import { openWindow, type Session } from "./session";
import { syntheticRun } from "./syntheticRun";
import { quickInput, runCommand, showContainer, summaryPage } from "./workbench";

const runMs = 300_000;
let session: Session;
const inWorkspace = (...parts: string[]) => path.join(session.workspace, ...parts);
const runs = () => treeRows(session.page, "Runs");
const checkpoints = () => treeRows(session.page, "Checkpoints");
/** Where each folder's runs are: one by default, one by the folder's own setting. */
const runFolders = { alpha: ["alpha", ".reroute", "runs"], beta: ["beta", "results"] };

beforeAll(async () => {
  const fill = async (workspace: string, { server }: Session) => {
    for (const [i, [name, folder]] of Object.entries(runFolders).entries()) {
      mkdirSync(path.join(workspace, name, ".vscode"), { recursive: true });
      await syntheticRun(path.join(workspace, ...folder), `2026-01-0${i + 1}_of-${name}`, i + 2, 8);
    }
    const beta = path.join(workspace, "beta");
    sampleWorkspace(beta);
    cpSync("test/fixtures/dense/qwen2/checkpoint", path.join(workspace, "alpha", "plain"), { recursive: true });
    const settings = { "reroute.runFolder": "results", "reroute.threads": 1, "reroute.memory": "1536MiB" };
    writeFileSync(path.join(beta, ".vscode", "settings.json"), JSON.stringify(settings));
    const folders = Object.keys(runFolders).map((name) => ({ path: name }));
    writeFileSync(path.join(workspace, "both.code-workspace"), JSON.stringify({ folders }));
    for (const model of ["acme--tiny-moe", "acme--large-moe", "other--tiny-moe"])
      cacheModel(path.join(path.dirname(server.userData), ".cache", "huggingface", "hub", `models--${model}`));
  };
  session = await openWindow("folders", fill, { opens: "both.code-workspace", shows: "beta" });
  await showContainer(session.page, "Reroute");
}, runMs);
afterAll(() => session?.close());

/** A model as Hugging Face's libraries keep it. */
function cacheModel(folder: string): void {
  const snapshot = "0".repeat(40);
  mkdirSync(path.join(folder, "refs"), { recursive: true });
  writeFileSync(path.join(folder, "refs", "main"), snapshot);
  cpSync("media/sample/checkpoint", path.join(folder, "snapshots", snapshot), { recursive: true });
}

describe("every folder of a workspace", () => {
  it("has its runs listed, each from the run folder of its own settings", async () => {
    for (const name of ["synthetic 2 x 8", "synthetic 3 x 8"]) await runs().filter({ hasText: name }).first().waitFor();
    expect(await runs().count()).toBe(2);
    await session.screenshot("1-runs");
  });

  it(
    "keeps the runs about its checkpoints, which take its settings",
    async () => {
      const { page } = session;
      await runCommand(page, "Reroute: Profile Routing");
      const wizard = quickInput(page);
      await wizard.asksFor("Which checkpoint?");
      await wizard.choose("fine");
      await wizard.asks("(1/3)", "Which text");
      await wizard.choose("calibration.jsonl");
      await wizard.asks("(2/3)", "How much of the text");
      await wizard.choose("Another amount");
      await wizard.asks("(2/3)", "Sequences x tokens");
      await wizard.type("4 x 32");
      await wizard.accept();
      const { text, press } = await summaryPage(page);
      expect(text).toContain("of a budget of 1.50 GiB");
      await press("Start");
      const folder = inWorkspace(...runFolders.beta);
      const made = () => readdirSync(folder).find((name) => !name.endsWith("_of-beta"));
      await until(() => made() !== undefined && existsSync(path.join(folder, made()!, "run.json")), runMs);
      const { recipe } = JSON.parse(readFileSync(path.join(folder, made()!, "run.json"), "utf8")) as RunFile;
      expect(recipe).toMatchObject({ threads: 1, memory: "1536MiB" });
      await runs().filter({ hasText: "done" }).filter({ hasText: "fine" }).first().waitFor({ timeout: runMs });
      expect(readdirSync(inWorkspace(...runFolders.alpha))).toEqual(["2026-01-01_of-alpha"]);
    },
    runMs,
  );
});

describe("a dense model", () => {
  it("is told what it is, in the tree and where calibration is asked for", async () => {
    const { page } = session;
    const dense = checkpoints()
      .filter({ has: page.getByText("plain", { exact: true }) })
      .first();
    await expand(dense);
    await checkpoints().filter({ hasText: "this is a dense model" }).first().waitFor();
    await runCommand(page, "Reroute: Calibrate Router");
    await quickInput(page).asksFor("Which checkpoint?");
    await quickInput(page).choose("plain");
    const told = await notification(page, "plain: this is a dense model");
    expect(await told.textContent()).toContain("no router to calibrate");
    await told.getByText("Show Documentation").waitFor();
    await session.screenshot("2-dense");
  });
});

describe("the Hugging Face cache", () => {
  const names = async () => {
    const shown = await checkpoints().filter({ hasText: "-moe" }).allTextContents();
    return shown.map((text) => text.trim());
  };

  it("lists models by their names, and those alone that are filtered by", async () => {
    const { page } = session;
    const hub = checkpoints().filter({ hasText: "Hugging Face cache" }).first();
    await expand(hub);
    await until(async () => (await names()).length === 3);
    expect(await names()).toEqual(["acme/large-moe", "acme/tiny-moe", "other/tiny-moe"]);
    await runCommand(page, "Reroute: Filter Models of the Hugging Face Cache");
    const { message, type, accept } = quickInput(page);
    await message.filter({ hasText: "Parts of the names" }).waitFor();
    await type("acme tiny");
    await accept();
    await hub.filter({ hasText: '"acme tiny"' }).waitFor();
    await until(async () => (await names()).length === 1);
    expect(await names()).toEqual(["acme/tiny-moe"]);
    await session.screenshot("3-filtered");
  });
});

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
