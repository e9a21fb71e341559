import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { textTokens } from "../../../src/extension/wizard/textTokens";
import { temporaryFolder } from "../../support/temporaryFolder";

const file = path.join(temporaryFolder(), "text.txt");
writeFileSync(file, "x".repeat(1000));
const engine = (answer: () => Promise<unknown>) => ({ request: answer }) as unknown as Parameters<typeof textTokens>[2];

test.each<[string, string | undefined, () => Promise<unknown>, number]>([
  ["what the engine counts", file, () => Promise.resolve({ tokens: 321 }), 321],
  ["a fifth of its bytes where nothing can be counted", file, () => Promise.reject(new Error("no tokenizer")), 200],
  ["none where there is no file", undefined, () => Promise.reject(new Error("asked")), 0],
  ["none of a file that is gone", `${file}.gone`, () => Promise.reject(new Error("asked")), 0],
])("a text has %s", async (_, of, answer, tokens) => {
  expect(await textTokens(of, "/models/a", engine(answer))).toBe(tokens);
});
