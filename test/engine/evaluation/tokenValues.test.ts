import { writeFileSync } from "node:fs";
import path from "node:path";
import { expect, it } from "vitest";
import { evaluatedTokens, valuesByToken } from "../../../src/engine/evaluation/tokenValues";
import { nextTokens } from "../../../src/engine/execution/batches";
import { evaluatedText } from "../../../src/engine/report/expertPanel";
import { temporaryFolder } from "../../support/temporaryFolder";

const folder = temporaryFolder();
const sequences = {
  ids: Int32Array.of(5, 6, 7, 8, 9, 0),
  domainIds: new Uint8Array(6),
  domainNames: ["text"],
  ...{ numSequences: 2, sequenceLength: 3, lengths: Int32Array.of(3, 2) },
};

it("a value stands at the token that was predicted, not where it was predicted from", () => {
  const { isTarget } = nextTokens({ ...sequences, sourceSha256: "" });
  const rows = {
    nll: Float32Array.of(1, 2, 99, 3, 99, 99),
    kl: Float32Array.of(0.1, 0.2, 99, 1 / 3, 99, 99),
    isTarget,
  };
  expect(valuesByToken(rows)).toEqual({
    nll: [null, 1, 2, null, 3, null],
    kl: [null, 0.1, 0.2, null, 0.333333, null],
  });
  expect(valuesByToken({ ...rows, kl: null }).kl).toBeNull();
  expect(evaluatedTokens(sequences, (all) => all.map((id) => `<${id}>`))).toEqual([
    "<5>",
    "<6>",
    "<7>",
    "<8>",
    "<9>",
    "",
  ]);
});

it("of a long text the first 2048 tokens are kept", () => {
  const many = new Float32Array(5000).fill(1);
  const values = valuesByToken({ nll: many, kl: null, isTarget: new Uint8Array(5000).fill(1) });
  expect(values.nll).toHaveLength(2048);
});

it.each<[string, string, boolean]>([
  ["whole", JSON.stringify({ ...file(), after: { nll: [null, 1], kl: null } }), true],
  ["of another length", JSON.stringify({ ...file(), after: { nll: [1], kl: null } }), false],
  ["of a later version", JSON.stringify({ ...file(), schemaVersion: 2 }), false],
  ["cut off", JSON.stringify(file()).slice(0, 20), false],
])("a file that is %s", async (name, text, isRead) => {
  const target = path.join(folder, `${name}.json`);
  writeFileSync(target, text);
  const read = await evaluatedText(target);
  expect(read !== null).toBe(isRead);
  if (read) expect(read.tokens).toEqual(["a", "b"]);
});

function file() {
  return { schemaVersion: 1, sequenceLength: 2, tokens: ["a", "b"], before: null, after: null };
}
