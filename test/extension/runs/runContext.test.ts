import { readFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { runContext } from "../../../src/extension/runs/runContext";

const { contributes } = JSON.parse(readFileSync("package.json", "utf8")) as {
  contributes: { menus: Record<string, { command: string; when: string }[]> };
};

/** What the menu of a row of the Runs tree offers, by the expressions of package.json. */
function offered(viewItem: string): string[] {
  const offers = contributes.menus["view/item/context"]!.filter(({ when }) => {
    const [, pattern] = /^view == reroute\.runs && viewItem =~ \/(.*)\/$/.exec(when) ?? [];
    return pattern !== undefined && new RegExp(pattern).test(viewItem);
  });
  return [...new Set(offers.map(({ command }) => command.replace("reroute.", "")))];
}

const pages = ["openRouting", "openDivergence", "openSimilarity", "openCalibration", "openText", "openPlan"];
const always = ["openRunFolder", "renameRun", "tagRun"];
const ofRun = [...pages, "compareRuns", "exportData", "duplicateRun", "copyCommandLine", ...always];

it.each<["run" | "comparison", Parameters<typeof runContext>[2], string[], string, string[]]>([
  ["run", "done", [], "run.done", [...ofRun, "openReport", "saveReport", "openPlayground", "runAgain", "deleteRun"]],
  [
    "run",
    "done",
    ["workers.jsonl"],
    "run.workers.done",
    [...ofRun, "openReport", "saveReport", "openPlayground", "runAgain", "deleteRun", "openWorkers"],
  ],
  ["run", "failed", [], "run.resumable", [...ofRun, "resumeRun", "runAgain", "deleteRun"]],
  [
    "run",
    "interrupted",
    ["distillation.json"],
    "run.distillation.resumable",
    [...ofRun, "resumeRun", "runAgain", "deleteRun", "openDistillation"],
  ],
  ["run", "live", ["workers.jsonl"], "run.workers.live", [...ofRun, "cancelRun", "openWorkers"]],
  ["run", "running", [], "run.elsewhere", [...ofRun, "cancelRun"]],
  [
    "comparison",
    "done",
    ["distillation.json", "workers.jsonl"],
    "comparison.workers.distillation.done",
    [...always, "openReport", "saveReport", "openTradeOff", "deleteRun", "openWorkers", "openDistillation"],
  ],
  ["comparison", "live", [], "comparison.live", [...always, "cancelRun", "openTradeOff"]],
])("a %s that is %s with %j is offered what it has", (kind, state, files, context, commands) => {
  const exists = (file: string) => files.includes(path.basename(file)) && path.dirname(file) === "/runs/one";
  const viewItem = runContext(kind, "/runs/one", state, exists);
  expect(viewItem).toBe(context);
  expect(offered(viewItem).sort()).toEqual([...commands].sort());
});
