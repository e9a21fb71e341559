import { RerouteError } from "../../protocol/errors";
import { quote } from "../checkpoint/quote";

/** An untrusted JSON object: config.json or an object inside it. Own keys only are read. */
export type Config = { readonly [key: string]: unknown };

/** One spelling of a key, or several that mean the same; the first is the one named in messages when none is present. */
export type Key = string | readonly [string, ...string[]];

/** Larger than any size of a real model, small enough that the product of two stays an exact integer. */
export const maxSize = 2 ** 26;

export interface IntRange {
  min: number;
  max?: number;
  /** Value of an absent or null key; without it, absence is an error. */
  default?: number;
}

/**
 * An integer between `min` and `max` (both included).
 * @throws RerouteError `checkpoint/malformed` naming key, found and expected.
 */
export function readInt(config: Config, key: Key, range: IntRange): number {
  const { min, max = maxSize } = range;
  const found = valueOf(config, key);
  if (found === undefined || found === null) return range.default ?? missing(key, `an integer of at least ${min}`);
  if (!isInteger(found) || found < min || found > max)
    throw malformedConfig(key, found, `an integer from ${min} to ${max}`);
  return found;
}

/** As readInt, for a key whose null means "none" and whose absence means `absent`. */
export function readNullableInt(
  config: Config,
  key: Key,
  range: { min: number; max?: number; absent: number | null },
): number | null {
  const found = valueOf(config, key);
  if (found === undefined) return range.absent;
  return found === null ? null : readInt(config, key, range);
}

/**
 * A finite number between `min` and `max` (both included).
 * @throws RerouteError `checkpoint/malformed`.
 */
export function readNumber(
  config: Config,
  key: Key,
  range: { min?: number; max?: number; default?: number } = {},
): number {
  const { min = -Infinity, max = Infinity } = range;
  const found = valueOf(config, key);
  const expected = `a number${Number.isFinite(min) ? ` of at least ${min}` : ""}${Number.isFinite(max) ? ` up to ${max}` : ""}`;
  if (found === undefined || found === null) return range.default ?? missing(key, expected);
  if (typeof found !== "number" || !Number.isFinite(found) || found < min || found > max) {
    throw malformedConfig(key, found, expected);
  }
  return found;
}

/** As readNumber, for a key whose null or absence means "none". */
export function readOptionalNumber(
  config: Config,
  key: Key,
  range: { min?: number; max?: number } = {},
): number | null {
  const found = valueOf(config, key);
  return found === undefined || found === null ? null : readNumber(config, key, range);
}

/** @throws RerouteError `checkpoint/malformed`. */
export function readBoolean(config: Config, key: Key, fallback: boolean): boolean {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return fallback;
  if (typeof found !== "boolean") throw malformedConfig(key, found, "true or false");
  return found;
}

/**
 * One of a list of words.
 * @throws RerouteError `model/unsupported-option` for another word, `checkpoint/malformed` for what is not a word.
 */
export function readChoice<T extends string>(config: Config, key: Key, choices: readonly T[], fallback: T): T {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return fallback;
  if (typeof found !== "string") throw malformedConfig(key, found, choices.join(" or "));
  const choice = choices.find((candidate) => candidate === found);
  if (choice === undefined) throw unsupported(key, found, choices.join(", "));
  return choice;
}

/** Any word, or null where the key is absent or null. @throws RerouteError `checkpoint/malformed`. */
export function readString(config: Config, key: Key): string | null {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return null;
  if (typeof found !== "string") throw malformedConfig(key, found, "a word");
  return found;
}

/**
 * A list of integers, or null where the key is absent or null.
 * @throws RerouteError `checkpoint/malformed`.
 */
export function readIntList(config: Config, key: Key, range: { min: number; max?: number }): number[] | null {
  const { min, max = maxSize } = range;
  const found = valueOf(config, key);
  if (found === undefined || found === null) return null;
  if (!Array.isArray(found) || !found.every((item) => isInteger(item) && item >= min && item <= max)) {
    throw malformedConfig(key, found, `a list of integers from ${min} to ${max}`);
  }
  return found as number[];
}

/** A list of finite numbers, or null where absent. @throws RerouteError `checkpoint/malformed`. */
export function readNumberList(config: Config, key: Key): number[] | null {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return null;
  if (!Array.isArray(found) || !found.every((item) => typeof item === "number" && Number.isFinite(item))) {
    throw malformedConfig(key, found, "a list of numbers");
  }
  return found as number[];
}

/** A list of strings, or null where absent. @throws RerouteError `checkpoint/malformed`. */
export function readStringList(config: Config, key: Key): string[] | null {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return null;
  if (!Array.isArray(found) || !found.every((item) => typeof item === "string")) {
    throw malformedConfig(key, found, "a list of words");
  }
  return found;
}

/** An object inside the config, or null where absent. @throws RerouteError `checkpoint/malformed`. */
export function readObject(config: Config, key: Key): Config | null {
  const found = valueOf(config, key);
  if (found === undefined || found === null) return null;
  if (typeof found !== "object" || Array.isArray(found)) throw malformedConfig(key, found, "an object");
  return found as Config;
}

/**
 * Refuses a key that is present with a value other than those this family's code does. Null counts as absent.
 * @throws RerouteError `model/unsupported-option`.
 */
export function refuseUnless(config: Config, key: string, allowed: readonly unknown[], why: string): void {
  const found = valueOf(config, key);
  if (found === undefined || found === null || allowed.includes(found)) return;
  throw new RerouteError("model/unsupported-option", `config.json says ${key} = ${show(found)}: ${why}`);
}

/** An option that the family's code does not do. */
export function unsupported(key: Key, found: unknown, supported: string): RerouteError {
  return new RerouteError(
    "model/unsupported-option",
    `config.json says ${nameOf(key)} = ${show(found)}, which Reroute does not support; supported: ${supported}`,
  );
}

/** A value of the wrong type or outside its range. */
export function malformedConfig(key: Key, found: unknown, expected: string): RerouteError {
  return new RerouteError(
    "checkpoint/malformed",
    `config.json says ${nameOf(key)} = ${show(found)}, expected ${expected}. Is this the config.json of this checkpoint?`,
  );
}

/**
 * The value under any of a key's spellings; undefined where none is present.
 * @throws RerouteError `checkpoint/malformed` where two spellings disagree.
 */
function valueOf(config: Config, key: Key): unknown {
  if (typeof key === "string") return own(config, key);
  const present = key.filter((name) => own(config, name) !== undefined);
  const [first, ...others] = present;
  if (first === undefined) return undefined;
  const value = own(config, first);
  for (const other of others) {
    if (JSON.stringify(own(config, other)) !== JSON.stringify(value)) {
      throw malformedConfig(other, own(config, other), `${show(value)} as ${first} says`);
    }
  }
  return value;
}

function own(config: Config, name: string): unknown {
  return Object.hasOwn(config, name) ? config[name] : undefined;
}

function missing(key: Key, expected: string): never {
  throw new RerouteError(
    "checkpoint/malformed",
    `config.json has no ${typeof key === "string" ? key : key.join(" or ")}, expected ${expected}. Is this the config.json of this checkpoint?`,
  );
}

function nameOf(key: Key): string {
  return typeof key === "string" ? key : key[0];
}

function isInteger(value: unknown): value is number {
  return Number.isSafeInteger(value);
}

/** A short, one-line form of an untrusted value, with control characters escaped. */
function show(value: unknown): string {
  if (typeof value === "string") return quote(value);
  // JSON has no word for NaN and infinity.
  if (typeof value === "number") return String(value);
  const text = JSON.stringify(value) ?? String(value);
  return text.includes('"')
    ? quote(text).slice(1, -1).replaceAll('\\"', '"')
    : text.length > 80
      ? `${text.slice(0, 77)}...`
      : text;
}
