/** The editor for .safetensors files: numbers against the file, hostile names, a shard that is cut off. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { seriousFindings } from "../support/axe";
import { agrees } from "./figures";
import { collapse, expand, explorerItem, openFromExplorer, treeRows } from "./explorer";
import { sampleWorkspace } from "./finishedRun";
import { click } from "./pointer";
import { openWindow, type Session } from "./session";
import { readTensors, writeTensors } from "./tensorFile";
import { pageInState, runCommand, showContainer } from "./workbench";

let session: Session;
const hostileNames = [
  "<img src=x onerror=window.pwned=1>",
  "../../../../etc/passwd",
  `long.${"x".repeat(10_000)}.end`,
  "abc\u202egnp.exe",
  "'; DROP TABLE tensors; --",
];

beforeAll(async () => {
  session = await openWindow(
    "tensor-editor",
    (workspace) => {
      sampleWorkspace(workspace);
      makeBroken(path.join(workspace, "broken"));
      mkdirSync(path.join(workspace, "hostile"));
      writeTensors(
        path.join(workspace, "hostile", "names.safetensors"),
        Object.fromEntries(hostileNames.map((name, i) => [name, [i, i + 1, i + 2]])),
      );
    },
    {
      settings: {
        "workbench.editorAssociations": { "*.safetensors": "reroute.safetensors" },
        "explorer.autoReveal": false,
      },
    },
  );
});
afterAll(() => session?.close());

const sum = (values: number[]): number => values.reduce((a, b) => a + b, 0);

/** A checkpoint whose only shard ends in the middle of its tensors. */
function makeBroken(folder: string): void {
  mkdirSync(folder);
  for (const file of ["config.json", "tokenizer.json"])
    writeFileSync(path.join(folder, file), readFileSync(path.join("media/sample/checkpoint", file)));
  const whole = readFileSync("media/sample/checkpoint/model.safetensors");
  writeFileSync(path.join(folder, "model.safetensors"), whole.subarray(0, 1_000_000));
}

it("lists tensors, filters them, and computes statistics on demand", async () => {
  const { page } = session;
  await openFile("model.safetensors", "fine");
  const frame = await pageInState(page, "tensors");
  const tensors = readTensors("media/sample/checkpoint/model.safetensors");
  expect(await frame.textContent("[data-total]")).toContain(`${tensors.size} tensors`);
  const router = [...tensors.keys()].find((name) => name.includes("layers.3") && /gate\.weight|router/.test(name))!;
  const filter = frame.locator("vscode-text-field");
  await click(filter);
  await filter.pressSequentially(router);
  await frame.locator("[data-total]", { hasText: `1 of ${tensors.size}` }).waitFor();
  const row = frame.locator("[data-table] tbody tr:not(.spacer)");
  expect(await row.allTextContents()).toHaveLength(1);
  const { shape, dtype, values } = tensors.get(router)!;
  const cells = await row.locator("td").allTextContents();
  expect(cells.slice(0, 3)).toEqual([router, `[${shape.join(", ")}]`, dtype]);
  await row.press("Enter");
  const list = frame.locator("[data-statistics]");
  await list.locator("dt", { hasText: "Mean" }).waitFor();
  const facts = new Map<string, string>(
    await frame.evaluate(
      `[...document.querySelectorAll("[data-statistics] dt")].map((dt) => [dt.textContent, dt.nextElementSibling.textContent])`,
    ),
  );
  const mean = sum(values) / values.length;
  const deviation = Math.sqrt(sum(values.map((v) => (v - mean) ** 2)) / values.length);
  const expected = {
    Mean: mean,
    "Standard deviation": deviation,
    Minimum: Math.min(...values),
    Maximum: Math.max(...values),
  };
  for (const [name, value] of Object.entries(expected)) {
    expect(agrees(facts.get(name) ?? "?", value, 4), `${name}: ${facts.get(name)} for ${value}`).toBe(true);
  }
  await session.screenshot("tensors");
  expect(await seriousFindings(frame)).toEqual([]);
});

it("shows hostile names as text", async () => {
  const { page } = session;
  await runCommand(page, "View: Close All Editors");
  await openFile("names.safetensors", "hostile");
  const frame = await pageInState(page, "tensors");
  const names = await frame.locator("[data-table] tbody tr:not(.spacer) td:first-child").allTextContents();
  expect(names).toHaveLength(hostileNames.length);
  expect(names.join("\n")).toContain("<img src=x onerror=window.pwned=1>");
  expect(names.join("\n")).toContain("abc⟨U+202E⟩gnp.exe");
  expect(Math.max(...names.map((name) => name.length))).toBeLessThan(200);
  expect(await frame.evaluate(`[document.images.length, "pwned" in window]`)).toEqual([0, false]);
  await click(frame.locator("[data-table] tbody tr:not(.spacer)").first());
  await frame.locator("[data-statistics] dt", { hasText: "Mean" }).waitFor();
  await session.screenshot("hostile");
});

it("says what is wrong with a truncated shard, in the editor and in the tree, which stay usable", async () => {
  const { page } = session;
  await runCommand(page, "View: Close All Editors");
  await openFile("model.safetensors", "broken");
  const frame = await pageInState(page, "tensors", "error");
  const told = (await frame.textContent(".notice.error"))!;
  expect(told).toMatch(/model\.safetensors/);
  expect(told).toMatch(/1,?000,?000|ends|truncated|beyond/);
  await session.screenshot("broken-editor");
  await showContainer(page, "Reroute");
  const broken = treeRows(page, "Checkpoints").filter({ hasText: "broken" }).first();
  await expand(broken);
  await treeRows(page, "Checkpoints").filter({ hasText: "model.safetensors" }).first().waitFor();
  await session.screenshot("broken-tree");
  await collapse(broken);
  const fine = treeRows(page, "Checkpoints")
    .filter({ has: page.getByText("fine", { exact: true }) })
    .first();
  await expand(fine);
  const layer = treeRows(page, "Checkpoints").filter({ hasText: "Layer 0" }).first();
  await expand(layer);
  await expand(treeRows(page, "Checkpoints").filter({ hasText: "MoE block" }).first());
  await treeRows(page, "Checkpoints").filter({ hasText: "Router" }).first().waitFor();
  await session.screenshot("trees");
});

/** Opens a file of a folder in the explorer with the editor that the settings choose. */
async function openFile(name: string, folder: string): Promise<void> {
  const { page } = session;
  await runCommand(page, "View: Show Explorer");
  await expand(explorerItem(page, folder));
  await openFromExplorer(page, name);
  // Files of other folders have the same name: only one folder is open at a time.
  await collapse(explorerItem(page, folder));
  await explorerItem(page, name).waitFor({ state: "hidden" });
}

it("leaves no error behind that nobody was told of", () => {
  expect(session.pageErrors).toEqual([]);
  expect(session.external).toEqual([]);
  expect(session.extensionLog()).not.toMatch(/content policy|ignored a message/);
});
