import { expect, it } from "vitest";
import { endReason } from "../../../src/extension/engine/childProcess";

it.each<[number | null, NodeJS.Signals | null, RegExp]>([
  [1, null, /^exit code 1$/],
  [null, null, /^exit code unknown$/],
  [null, "SIGBUS", /^signal SIGBUS: a weight file became shorter.*then resume the run$/],
  [null, "SIGKILL", /^signal SIGKILL: .*lower the memory budget, then resume the run$/],
  [null, "SIGSEGV", /^signal SIGSEGV: .*resume the run/],
  [null, "SIGTERM", /^signal SIGTERM$/],
])("an engine that ends with %s, %s", (code, signal, expected) => {
  expect(endReason(code, signal)).toMatch(expected);
  expect(endReason(code, signal)).not.toContain("\n");
});
