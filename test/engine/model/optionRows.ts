import { describe, expect, it } from "vitest";
import type { ModelDescription } from "../../../src/engine/model/description";
import { describeModel } from "../../../src/engine/model/families/index";
import { changeConfig, openGolden, type EditableCheckpoint } from "./goldens";

/** What a config option must turn into; `expected` was read from transformers 5.18's modeling files. */
export interface OptionRow {
  family: string;
  /** Keys of config.json; undefined takes one away. */
  changes?: Record<string, unknown>;
  edit?: (checkpoint: EditableCheckpoint) => void;
  says: string;
  read: (description: ModelDescription) => unknown;
  expected: unknown;
}

/** A test for each row, on the golden checkpoint of its family. */
export function testOptions(rows: OptionRow[]): void {
  describe("an option becomes what transformers does with it", () => {
    it.each(rows)("$family: $says", async ({ family, changes, edit, read, expected }) => {
      const checkpoint = await openGolden(family);
      changeConfig(checkpoint, changes ?? {});
      edit?.(checkpoint);
      expect(read(describeModel(checkpoint).description)).toEqual(expected);
    });
  });
}
