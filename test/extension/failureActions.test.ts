import { existsSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { documentOf, failureActions, lineIn, type Failed } from "../../src/extension/failureActions";
import { errorCodes, type ErrorCode } from "../../src/protocol/errors";

const codes = Object.keys(errorCodes) as ErrorCode[];

it("every error that can be shown ends in something to do, and leads to documentation that exists", () => {
  for (const code of codes.filter((one) => one !== "cancelled")) {
    expect(failureActions(code, "message", null), code).not.toEqual([]);
    expect(existsSync(path.join("docs", documentOf(code))), code).toBe(true);
  }
});

it.each<[ErrorCode, string, Failed, string[]]>([
  ["output/not-empty", "full", "run", ["chooseFolder", "editRecipe", "documentation"]],
  ["output/not-empty", "full", null, ["documentation"]],
  ["runtime/provider", "no cuda", "run", ["editRecipe", "setting", "log", "documentation"]],
  ["preflight/memory", "too small", null, ["setting", "documentation"]],
  ["run/locked", "in use", "run", ["cancelOther", "documentation"]],
  ["engine/closed", "ended", "run", ["resume", "log", "documentation"]],
  ["data/malformed", `line 3 of ${__filename}, byte 4: no text`, "run", ["line", "resume", "documentation"]],
  ["checkpoint/malformed", "first\nsecond", null, ["log", "documentation"]],
  ["internal", "a defect", null, ["log"]],
  ["preflight/disk", "full", "comparison", ["editRecipe", "setting", "resume", "documentation"]],
  ["data/tokenizer", "none", "comparison", ["editRecipe", "resume", "documentation"]],
  ["engine/closed", "ended", "comparison", ["resume", "log", "documentation"]],
  ["run/locked", "in use", "comparison", ["cancelOther", "documentation"]],
])("%s, %j, of %s: %j", (code, message, of, expected) => {
  expect(failureActions(code, message, of).map(({ kind }) => kind)).toEqual(expected);
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
