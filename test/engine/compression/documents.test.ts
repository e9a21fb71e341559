import { readFile } from "node:fs/promises";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { methods } from "../../../src/engine/compression/methods";
import { compressionMethods } from "../../../src/protocol/methods";

const read = (name: string) => readFile(path.join(__dirname, "../../../docs", name), "utf8");

describe("compression-methods.md in step with the code", () => {
  it("names every method and every option", async () => {
    const text = await read("compression-methods.md");
    for (const method of compressionMethods) expect(text, method).toContain(`\`${method}\``);
    for (const [method, { options }] of Object.entries(methods)) {
      const names = Object.keys((options as unknown as { shape: object }).shape);
      for (const name of names) expect(text, `${method}.${name}`).toMatch(new RegExp(`\`${name}(=[a-z]+)?\``));
    }
  });
  it("has one heading a method that says the same four things", async () => {
    const sections = (await read("compression-methods.md")).split(/^#{2,3} /m);
    for (const method of compressionMethods) {
      const [section, ...more] = sections.filter((text) => text.split("\n")[0]!.includes(`\`${method}\``));
      expect(more, method).toEqual([]);
      const said = [...(section ?? "").matchAll(/^- \*\*([^*]+)\*\*:/gm)].map(([, what]) => what);
      expect(said, method).toEqual(["Computes", "Options", "Differs from the paper", "Loads in"]);
    }
  });
  it("every default can be parsed, and unknown options are refused", () => {
    for (const { options } of Object.values(methods)) {
      expect(options.safeParse({}).success).toBe(true);
      expect(options.safeParse({ magic: 1 }).success).toBe(false);
    }
  });
});
