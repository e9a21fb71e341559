import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, it } from "vitest";
import type { SoftmaxAttention } from "../../../src/engine/model/description";
import { describeModel } from "../../../src/engine/model/families/index";
import { rotaryTables } from "../../../src/engine/model/rotary";
import { openGolden } from "./goldens";

interface Case {
  family: string;
  /** Replaces keys of the golden config; null leaves a key out. A non-empty one also drops rope_parameters. */
  override: Record<string, unknown>;
  positions: number;
  dims: number;
  /** Positions whose numbers follow. */
  rows: number[];
  cos: number[][];
  sin: number[][];
}
const { cases } = JSON.parse(readFileSync(path.join("test", "fixtures", "rotary.json"), "utf8")) as { cases: Case[] };

describe("rotary tables agree with transformers in float32", () => {
  it.each(cases.map((item) => [`${item.family} ${JSON.stringify(item.override)} n=${item.positions}`, item] as const))(
    "%s",
    async (_, { family, override, positions, dims, rows, cos, sin }) => {
      const checkpoint = await openGolden(family);
      if (Object.keys(override).length > 0) delete checkpoint.config["rope_parameters"];
      Object.assign(checkpoint.config, override);
      for (const [key, value] of Object.entries(override))
        if (value === null) Reflect.deleteProperty(checkpoint.config, key);
      const rotary = (describeModel(checkpoint).description.layers[0]!.attention as SoftmaxAttention).rotary!;
      expect(rotary.dims).toBe(dims);
      const tables = rotaryTables(rotary, positions);
      expect(tables.cos.length).toBe((positions * dims) / 2);
      rows.forEach((position, row) => {
        for (let i = 0; i < dims / 2; i++) {
          // An angle of n radians carries a rounding error of about n * 2^-24 from its float32 frequency.
          const tolerance = 6e-8 * (2 + position);
          expect(Math.abs(tables.cos[(position * dims) / 2 + i]! - cos[row]![i]!)).toBeLessThan(tolerance);
          expect(Math.abs(tables.sin[(position * dims) / 2 + i]! - sin[row]![i]!)).toBeLessThan(tolerance);
        }
      });
    },
  );
});
