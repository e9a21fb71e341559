/** The Playground in VS Code: two checkpoints answer, what they wrote is the command line's, and every token is compared. */
import { execFile } from "node:child_process";
import { cpSync, existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { GenerationResult } from "../../src/protocol/generation";
import { seriousFindings } from "../support/axe";
import { until } from "./codeServer";
import { sampleWorkspace } from "./finishedRun";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { acceptSave, pageInState, quickInput, runCommand } from "./workbench";

let session: Session;

beforeAll(async () => {
  session = await openWindow("playground", (workspace) => {
    sampleWorkspace(workspace);
    cpSync(path.join(workspace, "fine"), path.join(workspace, "twin"), { recursive: true });
  });
}, 600_000);
afterAll(() => session?.close());

it("asks two checkpoints, streams, compares them token by token, and exports", async () => {
  const { page, workspace } = session;
  await runCommand(page, "Reroute: Open Playground");
  const picker = quickInput(page);
  await picker.asksFor("Which checkpoint?");
  await picker.choose("fine");
  let frame = await pageInState(page, "playground");
  await click(frame.locator("vscode-button:text-is('Add Checkpoint...')"));
  await picker.asksFor("Which checkpoint?");
  await picker.choose("twin");
  await until(async () => {
    frame = await pageInState(page, "playground");
    return (await frame.locator("[data-column]").count()) === 2;
  });
  expect(await frame.textContent("[data-column='1']")).toContain("which stay in memory");
  await frame.fill("textarea >> nth=0", "In the beginning");
  await frame.fill("label:has-text('max_new_tokens') input", "8");
  await frame.check("label:has-text('do_sample') input");
  await frame.fill("label:has-text('seed') input", "5");
  await frame.press("textarea >> nth=0", "Control+Enter");
  await until(async () => (await frame.textContent("[data-status]"))?.startsWith("Done") === true, 300_000);
  expect(await frame.textContent("[data-status]")).toBe("Done · sampled with seed 5");
  expect(await frame.isVisible("[data-problem]")).toBe(false);
  await session.screenshot("playground");
  expect(await seriousFindings(frame)).toEqual([]);

  // The same checkpoint under the same seed writes the same, here and on the command line, and differs by rounding alone.
  await click(frame.locator("button:text-is('JSON')"));
  const file = await acceptSave(page, "json");
  await until(() => existsSync(file) && readFileSync(file).length > 0);
  const { responses } = JSON.parse(readFileSync(file, "utf8")) as {
    responses: {
      text: string;
      ids: number[];
      layer: number;
      scores: { models: { kl: number[] | null; nll: number[] }[] };
    }[];
  };
  expect(responses[0]!.layer).toBe(0);
  expect(responses[1]!.text).toBe(responses[0]!.text);
  const argv = ["dist/cli.js", "generate", path.join(workspace, "fine"), "--prompt", "In the beginning"];
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...argv,
    ...["--max-new-tokens", "8", "--do-sample", "--seed", "5", "--json"],
  ]);
  const fromCli = JSON.parse(stdout) as GenerationResult;
  expect(responses[0]!.ids).toEqual(fromCli.responses[0]!.ids);
  const [teacher, twin] = responses[0]!.scores.models;
  expect(teacher!.kl).toBeNull();
  expect(Math.max(...twin!.kl!)).toBeLessThan(1e-5);
  expect(twin!.nll).toEqual(teacher!.nll.map((value) => expect.closeTo(value, 4) as number));

  // The tree of runs and checkpoints is read while it works, and work ends when it is cancelled.
  await frame.fill("label:has-text('max_new_tokens') input", "200");
  await frame.press("textarea >> nth=0", "Control+Enter");
  await until(async () => (await frame.locator("[data-column='0'] .token").count()) > 0, 120_000);
  await click(frame.locator("vscode-button:text-is('Cancel')"));
  await until(async () => (await frame.textContent("[data-status]"))?.startsWith("Cancelled") === true, 60_000);
  expect(session.pageErrors).toEqual([]);
  expect(session.external).toEqual([]);
}, 900_000);
