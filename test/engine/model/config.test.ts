import { describe, expect, it } from "vitest";
import {
  readBoolean,
  readChoice,
  readInt,
  readIntList,
  readNullableInt,
  readNumber,
  readObject,
  refuseUnless,
  type Config,
} from "../../../src/engine/model/config";

type Read = (config: Config) => unknown;
const size: Read = (config) => readInt(config, "size", { min: 1, max: 10 });
const sizeOr4: Read = (config) => readInt(config, "size", { min: 1, default: 4 });
const either: Read = (config) => readInt(config, ["new_name", "old_name"], { min: 0 });
const window: Read = (config) => readNullableInt(config, "window", { min: 1, absent: 4096 });
const share: Read = (config) => readNumber(config, "share", { min: 0, max: 1, default: 0.5 });
const flag: Read = (config) => readBoolean(config, "flag", true);
const word: Read = (config) => readChoice(config, "word", ["a", "b"], "a");
const list: Read = (config) => readIntList(config, "list", { min: 0 });
const inside: Read = (config) => readObject(config, "inside");

describe("values that are read", () => {
  it.each<[string, Read, Config, unknown]>([
    ["an integer", size, { size: 10 }, 10],
    ["a default", sizeOr4, {}, 4],
    ["null as absent", sizeOr4, { size: null }, 4],
    ["the first spelling", either, { new_name: 3 }, 3],
    ["the second spelling", either, { old_name: 0 }, 0],
    ["both spellings alike", either, { old_name: 3, new_name: 3 }, 3],
    ["null as none", window, { window: null }, null],
    ["absence as the default", window, {}, 4096],
    ["a bound", share, { share: 1 }, 1],
    ["false", flag, { flag: false }, false],
    ["a word", word, { word: "b" }, "b"],
    ["an empty list", list, { list: [] }, []],
    ["no object", inside, {}, null],
    ["an object", inside, { inside: { x: 1 } }, { x: 1 }],
  ])("%s", (_, read, config, expected) => expect(read(config)).toEqual(expected));

  it("never reads what the prototype chain has", () => {
    expect(readObject({}, "constructor")).toBeNull();
    expect(() => readInt({}, "length", { min: 0 })).toThrow("config.json has no length");
  });
});

describe("values that are refused", () => {
  it.each<[string, Read, Config, string]>([
    ["missing", size, {}, "config.json has no size, expected an integer of at least 1"],
    ["missing in all spellings", either, {}, "config.json has no new_name or old_name"],
    ["too small", size, { size: 0 }, "config.json says size = 0, expected an integer from 1 to 10"],
    ["too large", size, { size: 11 }, "size = 11"],
    ["a fraction", size, { size: 1.5 }, "size = 1.5"],
    ["text", size, { size: "8" }, 'size = "8"'],
    ["infinite", share, { share: Infinity }, "share = Infinity, expected a number of at least 0 up to 1"],
    ["spellings that disagree", either, { old_name: 3, new_name: 4 }, "old_name = 3, expected 4 as new_name says"],
    ["a number as flag", flag, { flag: 1 }, "flag = 1, expected true or false"],
    ["a list of fractions", list, { list: [1, 0.5] }, "list = [1,0.5]"],
    ["a list as object", inside, { inside: [] }, "inside = [], expected an object"],
    ["what could forge a log line", size, { size: "a\nb\u202e" }, 'size = "a\\nb\\u202e"'],
  ])("%s", (_, read, config, message) => {
    expect(() => read(config)).toThrow(expect.objectContaining({ code: "checkpoint/malformed" }));
    expect(() => read(config)).toThrow(message);
  });

  it("another word is an option that is not supported", () => {
    expect(() => word({ word: "c" })).toThrow(expect.objectContaining({ code: "model/unsupported-option" }));
    expect(() => word({ word: "c" })).toThrow(
      'config.json says word = "c", which Reroute does not support; supported: a, b',
    );
  });

  it("an option with another value is refused by name", () => {
    refuseUnless({ other: 5, key: 1, none: null }, "key", [1], "why");
    refuseUnless({ none: null }, "none", [1], "why");
    expect(() => refuseUnless({ key: 2 }, "key", [1], "why")).toThrow("config.json says key = 2: why");
  });

  it("long values are cut", () => {
    const message = (() => {
      try {
        size({ size: Array(1000).fill(7) });
      } catch (error) {
        return (error as Error).message;
      }
      return "";
    })();
    expect(message.length).toBeLessThan(250);
  });
});
