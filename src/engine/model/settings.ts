import {
  readBoolean,
  readInt,
  readNullableInt,
  readNumber,
  readOptionalNumber,
  type Config,
  type IntRange,
  type Key,
} from "./config";

/** An entry of a family's table: a literal, or what config.json says. */
export type Setting<T> = T | ((config: Config) => T);

/** The value of a setting; an absent one is `fallback`. */
export function settle<T>(setting: Setting<T> | undefined, config: Config, fallback: T): T {
  if (setting === undefined) return fallback;
  return typeof setting === "function" ? (setting as (config: Config) => T)(config) : setting;
}

/* Readers of one key each, as tables name them; `absent` is what transformers' config class says where config.json is silent. */

export const flag = (key: Key, absent: boolean) => (config: Config) => readBoolean(config, key, absent);

/** A size that one key says, so that a compression can write another. */
export interface KeyedSize {
  (config: Config): number;
  key: Key;
}

export const size = (key: Key, absent: number, range: Partial<IntRange> = {}): KeyedSize =>
  Object.assign((config: Config) => readInt(config, key, { min: 1, ...range, default: absent }), { key });

/** As size, of a key that config.json must have. */
export const requiredSize = (key: Key): KeyedSize =>
  Object.assign((config: Config) => readInt(config, key, { min: 1 }), { key });

/** As size, of a key whose null means none. */
export const sizeOrNone = (key: Key, absent: number | null) => (config: Config) =>
  readNullableInt(config, key, { min: 1, absent });

export const number =
  (key: Key, absent: number, range: { min?: number; max?: number } = {}) =>
  (config: Config) =>
    readNumber(config, key, { ...range, default: absent });

export const numberOrNone =
  (key: Key, range: { min?: number; max?: number } = {}) =>
  (config: Config) =>
    readOptionalNumber(config, key, range);
