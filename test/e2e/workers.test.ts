/** A run over a queue, as a person sees it: the setting, the password, the Workers view, the pre-flight, the timeline, the start command. */
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import type { Frame } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { seriousFindings } from "../support/axe";
import { hasRedis, RedisServer } from "../support/redisServer";
import { until } from "./codeServer";
import { treeRows } from "./explorer";
import { sampleWorkspace, small, writeRecipe } from "./finishedRun";
import { answerNotification } from "./notifications";
import { openWindow, type Session } from "./session";
import { pageInState, quickInput, runCommand, showContainer, summaryPage } from "./workbench";

const runMs = 300_000;
/** Nowhere but in the memory of processes. */
const password = "4%correct-horse@battery";

describe.skipIf(!hasRedis)("a queue of workers", () => {
  let session: Session;
  let redis: RedisServer;
  let worker: ChildProcess | null = null;
  /** The queue as people see it. */
  let shown = "";
  const rows = () => treeRows(session.page, "Workers");
  const row = (words: string | RegExp) => rows().filter({ hasText: words }).first();

  beforeAll(async () => {
    redis = await RedisServer.start(password);
    shown = redis.url.replace("://", "://:***@");
    session = await openWindow(
      "workers",
      async (workspace, { page }) => {
        sampleWorkspace(workspace);
        writeRecipe(workspace, "spread", "reap", small);
        await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
      },
      {
        settings: { "reroute.queue": redis.url, "reroute.localWorkers": 1, "reroute.threads": 1 },
      },
    );
    await showContainer(session.page, "Reroute");
  }, runMs);
  afterAll(async () => {
    worker?.kill("SIGKILL");
    await session?.close();
    await redis?.kill();
  });

  it(
    "that asks for a password is not used without it, and the view says so",
    async () => {
      await row("NOAUTH").waitFor({ timeout: 120_000 });
      await session.screenshot("1-no-password");
      await runCommand(session.page, "Reroute: Set Queue Password...");
      const { input, accept } = quickInput(session.page);
      await input.waitFor();
      expect(await input.getAttribute("type")).toBe("password");
      await input.fill(password);
      await accept();
      await session.page.getByText("No worker is at the queue").waitFor({ timeout: 120_000 });
      await session.screenshot("2-no-worker");
    },
    runMs,
  );

  it(
    "shows a worker that comes, with what it is",
    async () => {
      const url = redis.url.replace("://", `://:${encodeURIComponent(password)}@`);
      const args = ["dist/cli.js", "worker", "--name", "node-7", "--threads", "1", "--lock", "5"];
      worker = spawn(process.execPath, args, { env: { ...process.env, REROUTE_QUEUE: url }, stdio: "ignore" });
      await row("node-7").waitFor({ timeout: 120_000 });
      expect(await row("node-7").textContent()).toContain("idle");
      expect(await row("node-7").getAttribute("aria-label")).toMatch(/^node-7, .+, idle · .+ · 1 thread/);
      await session.screenshot("3-worker");
    },
    runMs,
  );

  it(
    "is named before a run starts, and does its work",
    async () => {
      const { page, workspace } = session;
      await runCommand(page, "Reroute: Check Recipe");
      await quickInput(page).asksFor("Which recipe?");
      await quickInput(page).choose("spread.reroute.json");
      const { text, press } = await summaryPage(page);
      expect(text).toContain(`1 eligible at ${shown}, 1 threads; 1 is started on this machine`);
      await session.screenshot("4-check");
      await press("Start");
      const runs = path.join(workspace, ".reroute", "runs");
      const folder = () => (existsSync(runs) ? readdirSync(runs)[0] : undefined);
      await until(() => Promise.resolve(folder() !== undefined), 120_000);
      const directory = path.join(runs, folder()!);
      for (const file of ["run.json", "workers.json"])
        await until(() => Promise.resolve(existsSync(path.join(directory, file))), 120_000);
      await runCommand(page, "Reroute: Open Workers Timeline");
      await until(() => Promise.resolve(existsSync(path.join(directory, "report.html"))), runMs);
      const frame = await pageInState(page, "workers");
      const shows = (of: Frame, words: string) => of.textContent("dl.facts").then((all) => (all ?? "").includes(words));
      // It is read again while the run works, and once more at its end.
      await until(() => shows(frame, " 0 left, "), 60_000);
      const timeline = readFileSync(path.join(directory, "workers.jsonl"), "utf8").trim().split("\n");
      const tiles = timeline
        .map((line) => JSON.parse(line) as { kind: string; worker: string; tile: string })
        .filter(({ kind }) => kind === "tile");
      expect(new Set(tiles.map((tile) => tile.worker)).has("node-7")).toBe(true);
      const done = new Set(tiles.map(({ tile }) => tile)).size;
      await until(() => shows(frame, `${done} done`), 60_000);
      await session.screenshot("5-timeline");
      expect(await seriousFindings(frame)).toEqual([]);
    },
    2 * runMs,
  );

  it(
    "whose worker is started elsewhere by a command that holds no password",
    async () => {
      const { page } = session;
      await runCommand(page, "Reroute: Copy Start Command...");
      const question = quickInput(page);
      await question.asksFor("What starts the workers?");
      await question.choose("Slurm");
      for (const [asked, answer] of [
        ["How many workers?", "4"],
        ["Threads of each worker", "2"],
        ["Memory of each worker", ""],
      ] as const) {
        await until(async () => ((await question.message.textContent().catch(() => "")) ?? "").includes(asked));
        await question.input.fill(answer);
        await question.accept();
      }
      await answerNotification(page, "Copied what starts 4 workers", "Show");
      const script = await page.evaluate<string>("navigator.clipboard.readText()");
      expect(script).toContain("#SBATCH --array=1-4");
      expect(script).toContain('"${REROUTE_QUEUE:?');
      expect(script).not.toContain(password);
      expect(spawnSync("bash", ["-n"], { input: script }).status).toBe(0);
      await session.screenshot("6-slurm");
    },
    runMs,
  );

  it("has told nobody its password", () => {
    const { workspace, server } = session;
    const texts = [workspace, server.userData].flatMap((folder) =>
      readdirSync(folder, { recursive: true, encoding: "utf8" })
        .map((name) => path.join(folder, name))
        .filter(
          (file) => statSync(file, { throwIfNoEntry: false })?.isFile() && /\.(jsonl?|log|txt|md|html)$/.test(file),
        ),
    );
    const forms = [password, encodeURIComponent(password)];
    const telling = texts.filter((file) => forms.some((form) => readFileSync(file, "utf8").includes(form)));
    expect(telling).toEqual([]);
    for (const { command } of server.processes()) for (const form of forms) expect(command).not.toContain(form);
    expect(session.pageErrors).toEqual([]);
    expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
  });

  it(
    "that has lost a worker says that the list is empty",
    async () => {
      const { page } = session;
      await showContainer(page, "Reroute");
      worker!.kill("SIGTERM");
      await once(worker!, "exit");
      await page.getByText("No worker is at the queue").waitFor({ timeout: 120_000 });
    },
    runMs,
  );

  it("is shown only where one is set", async () => {
    const { page, workspace } = session;
    mkdirSync(path.join(workspace, ".vscode"), { recursive: true });
    writeFileSync(path.join(workspace, ".vscode/settings.json"), JSON.stringify({ "reroute.queue": "" }));
    const header = page.locator(".pane-header", { hasText: "Workers" });
    await header.waitFor({ state: "hidden", timeout: 60_000 });
  });
});
