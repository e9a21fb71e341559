import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import {
  removeEvaluationState,
  removeLeftovers,
  removeTeacherTargets,
} from "../../../../src/engine/run/folder/leftovers";
import { temporaryFolder } from "../../../support/temporaryFolder";

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

it("removes an evaluation's state, the student's alone or the teacher's too, and no result", async () => {
  const key = "0123456789abcdef";
  const student = ["evaluation-student-state.json", `evaluation-student-hidden-${key}-0-3.f32`];
  const teacher = [
    "evaluation-teacher-state.json",
    `evaluation-teacher-hidden-${key}-0-48.f32`,
    ...["logits", "selected"].map((part) => `evaluation-teacher-trace-${key}-0-${part}.f32`),
  ];
  const results = [
    "evaluation.json",
    "evaluation-teacher.json",
    "evaluation-before.json",
    `profile-hidden-${key}-0-1.f32`,
  ];
  const folder = temporaryFolder();
  for (const name of [...student, ...teacher, ...results]) writeFileSync(path.join(folder, name), "x");
  expect((await removeEvaluationState(folder, "student")).sort()).toEqual([...student].sort());
  expect((await removeEvaluationState(folder, "all")).sort()).toEqual([...teacher].sort());
  expect(readdirSync(folder).sort()).toEqual([...results].sort());
});
