import { existsSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { documentOf, failureActions, lineIn } from "../../src/extension/failureActions";
import { errorCodes, type ErrorCode } from "../../src/protocol/errors";

const codes = Object.keys(errorCodes) as ErrorCode[];

it("every error that can be shown ends in something to do, and leads to documentation that exists", () => {
  for (const code of codes.filter((one) => one !== "cancelled")) {
    expect(failureActions(code, "message", false), code).not.toEqual([]);
    expect(existsSync(path.join("docs", documentOf(code))), code).toBe(true);
  }
});

it.each<[ErrorCode, string, boolean, string[]]>([
  ["output/not-empty", "full", true, ["chooseFolder", "editRecipe", "documentation"]],
  ["output/not-empty", "full", false, ["documentation"]],
  ["runtime/provider", "no cuda", true, ["editRecipe", "setting", "log", "documentation"]],
  ["preflight/memory", "too small", false, ["setting", "documentation"]],
  ["run/locked", "in use", true, ["cancelOther", "documentation"]],
  ["engine/closed", "ended", true, ["resume", "log", "documentation"]],
  ["data/malformed", `line 3 of ${__filename}, byte 4: no text`, true, ["line", "resume", "documentation"]],
  ["checkpoint/malformed", "first\nsecond", false, ["log", "documentation"]],
  ["internal", "a defect", false, ["log"]],
])("%s, %j, of a run %s: %j", (code, message, isOfRun, expected) => {
  expect(failureActions(code, message, isOfRun).map(({ kind }) => kind)).toEqual(expected);
});

it.each<[string, ReturnType<typeof lineIn>]>([
  ["line 12 of /t/a.jsonl, byte 40: not UTF-8", { file: "/t/a.jsonl", line: 12 }],
  ["line 1 of /t/with space, and comma.jsonl: no text", { file: "/t/with space, and comma.jsonl", line: 1 }],
  ['the record before line 7 of "/t/a.jsonl"', { file: "/t/a.jsonl", line: 7 }],
  ["line 7 of /t/gone.jsonl", null],
  ["no place at all", null],
])("%s", (message, expected) => {
  const files = ["/t/a.jsonl", "/t/with space, and comma.jsonl"];
  expect(lineIn(message, (file) => files.includes(file))).toEqual(expected);
});
