import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { removeLeftovers, removeTeacherTargets } from "../../../src/engine/run/leftovers";
import { temporaryFolder } from "../../support/temporaryFolder";

const kept = ["run.json", "metrics.jsonl", "hidden.f32", "lock.json", "notes.reroute-partial", "teacher-targets.txt"];
const scratch = [".run.json.reroute-partial", "hidden-12-3.f32", "lock.json.stale-77"];
const targets = ["teacher-targets-0a1b.f32", "teacher-targets-0a1b.f32.json"];

it("removes what killed processes left and nothing else", async () => {
  const folder = temporaryFolder();
  for (const name of [...kept, ...scratch, ...targets]) writeFileSync(path.join(folder, name), "x");
  expect((await removeLeftovers(folder)).sort()).toEqual([...scratch].sort());
  expect(readdirSync(folder).sort()).toEqual([...kept, ...targets].sort());
  expect((await removeTeacherTargets(folder)).sort()).toEqual(targets);
  expect(readdirSync(folder).sort()).toEqual([...kept].sort());
});
