import { quote } from "../../checkpoint/quote";
import { readSafetensorsFile } from "../../checkpoint/safetensorsFile";
import { parseNpy, type IntegerArray } from "./npy";
import { ExpertCounter, invalidTrace, maxTraceLayers, type TraceCounts } from "./traceCounts";

/** Nesting of a response around its routed experts: list of responses, choices, output. */
const maxDepth = 8;

/**
 * Routed experts that vLLM returns with `--enable-return-routed-experts`: expert ids [tokens, layers, experts a token]
 * for each request (`routed_experts` of generated tokens, `prompt_routed_experts` of the prompt), as NumPy arrays from
 * Python; in the JSON of /v1/completions as nested lists, or as the base64 of a .npy file. Positions that came from the prefix cache hold -1 and are not
 * counted; layers that never write (dense ones, where a version has all layers) hold zeros and count no token. A token's
 * experts differ, which tells ids from counts. Source: docs/training/routed_experts_replay.md of vllm-project/vllm (v0.21); pull request 28284.
 *
 * @throws RerouteError trace/invalid
 */
export function countRoutedExperts(arrays: ReadonlyMap<string, IntegerArray>, source: string): TraceCounts {
  const counters: { experts: ExpertCounter; tokens: number; written: boolean; repeated: string | null }[] = [];
  for (const [name, { shape, values }] of arrays) {
    const [tokens, layers, perToken] = shape;
    if (shape.length !== 3 || tokens === undefined || layers === undefined || perToken === undefined || perToken < 1) {
      throw invalidTrace(
        `${quote(name)} in ${quote(source)} has shape [${shape.join(", ")}], routed experts are [tokens, layers, experts a token]`,
      );
    }
    if (layers > maxTraceLayers || (counters.length > 0 && counters.length !== layers)) {
      throw invalidTrace(
        `${quote(name)} in ${quote(source)} has ${layers} layers, ${counters.length > 0 ? `others have ${counters.length}` : `the limit is ${maxTraceLayers}`}`,
      );
    }
    while (counters.length < layers)
      counters.push({ experts: new ExpertCounter(), tokens: 0, written: false, repeated: null });
    for (let row = 0; row < tokens * layers; row++) {
      const counter = counters[row % layers]!;
      const ids = Array.from({ length: perToken }, (_, k) => values[row * perToken + k]!);
      if (!addRow(counter.experts, ids, name, source)) continue;
      counter.tokens++;
      counter.written ||= perToken === 1 || ids.some((id) => id !== 0);
      if (new Set(ids).size < perToken) counter.repeated ??= ids.join(", ");
    }
  }
  if (counters.length === 0) throw invalidTrace(`${quote(source)} holds no routed experts`);
  return {
    layers: counters.map(({ experts, tokens, written, repeated }, number) => {
      if (!written) return { number, frequency: new Float64Array(0), tokens: 0 };
      if (repeated === null) return { number, frequency: experts.frequency, tokens };
      throw invalidTrace(
        `A token of ${quote(source)} has the experts ${repeated} in layer ${number} of the axis, one of them twice, so these are no routed experts; counts of SGLang need --format sglang`,
      );
    }),
    numbering: "axis",
    hasAllExperts: false,
  };
}

/** One token in one layer; false where its ids are -1, which means that nobody looked. */
function addRow(counter: ExpertCounter, ids: readonly number[], name: string, source: string): boolean {
  if (ids.every((id) => id === -1)) return false;
  for (const id of ids) {
    try {
      counter.add(id);
    } catch {
      throw invalidTrace(`${quote(name)} in ${quote(source)} holds ${id}, which is no expert id`);
    }
  }
  return true;
}

/**
 * Integer tensors of three dimensions in a .safetensors file.
 * @throws RerouteError trace/invalid; codes of readSafetensorsFile
 */
export async function readSafetensorsIds(file: string): Promise<Map<string, IntegerArray>> {
  const { tensors } = await readSafetensorsFile(file);
  const arrays = new Map<string, IntegerArray>();
  for (const [name, { dtype, shape, data }] of tensors) {
    const make = integerArrays[dtype];
    if (make && shape.length === 3) arrays.set(name, { shape, values: make(new Uint8Array(data).buffer) });
  }
  return arrays;
}

const integerArrays: Record<string, ((data: ArrayBuffer) => ArrayLike<number>) | undefined> = {
  U8: (data) => new Uint8Array(data),
  I8: (data) => new Int8Array(data),
  U16: (data) => new Uint16Array(data),
  I16: (data) => new Int16Array(data),
  U32: (data) => new Uint32Array(data),
  I32: (data) => new Int32Array(data),
  I64: (data) => Float64Array.from(new BigInt64Array(data), Number),
};

/** What a checkpoint or the user says of a trace whose arrays do not say it; null where it is not known. */
export interface KnownAxes {
  layers: number | null;
  expertsPerToken: number | null;
}

/**
 * Routed experts in the JSON of one response, a list of responses, or one nested list of ids. Both fields are looked for
 * wherever a response keeps them. A string is base64: of a .npy file (vLLM), or of int32 ids [tokens, layers, experts a token]
 * alone (`meta_info.routed_experts` of SGLang's --enable-return-routed-experts), whose tokens are one fewer than
 * `prompt_tokens` and `completion_tokens` beside it say.
 * @throws RerouteError trace/invalid
 */
export function findRoutedExperts(json: unknown, source: string, axes: KnownAxes): Map<string, IntegerArray> {
  const arrays = new Map<string, IntegerArray>();
  const visit = (value: unknown, path: string, depth: number): void => {
    if (typeof value !== "object" || value === null || depth > maxDepth) return;
    if (Array.isArray(value)) {
      for (const [i, item] of value.entries()) visit(item, `${path}[${i}]`, depth + 1);
      return;
    }
    for (const [key, member] of Object.entries(value)) {
      const at = path === "" ? key : `${path}.${key}`;
      if (key === "routed_experts" || key === "prompt_routed_experts") {
        if (typeof member === "string")
          arrays.set(at, decodeArray(member, at, source, { ...axes, ...tokensOf(value) }));
        else if (member !== null) arrays.set(at, nestedList(member, at, source));
      } else visit(member, at, depth + 1);
    }
  };
  if (isNestedList(json)) arrays.set("ids", nestedList(json, "ids", source));
  else visit(json, "", 0);
  return arrays;
}

/** The tokens that went through the model: the last one of a response has only been sampled. */
function tokensOf(metaInfo: object): { tokens: number | null } {
  const { prompt_tokens: prompt, completion_tokens: completion } = metaInfo as Record<string, unknown>;
  const known = typeof prompt === "number" && typeof completion === "number";
  return { tokens: known ? prompt + completion - 1 : null };
}

function decodeArray(
  text: string,
  name: string,
  source: string,
  { layers, expertsPerToken, tokens }: KnownAxes & { tokens: number | null },
): IntegerArray {
  const fail = (problem: string): never => {
    throw invalidTrace(`${quote(name)} in ${quote(source)} ${problem}`);
  };
  if (!/^[\w+/-]*={0,2}$/.test(text)) return fail("is a string, but not base64 of an array");
  const bytes = Buffer.from(text, "base64");
  if (bytes[0] === 0x93) return parseNpy(bytes, `${source}: ${name}`);
  if (bytes.length % 4 !== 0) return fail(`is base64 of ${bytes.length} bytes, neither a .npy file nor int32 ids`);
  const values = new Int32Array(Uint8Array.from(bytes).buffer);
  const known = [tokens, layers, expertsPerToken].filter((size) => size !== null);
  if (known.length < 2) {
    return fail(
      "is base64 of ids without a shape; give the checkpoint it was recorded with, or the experts a token uses " +
        "(--checkpoint DIR, --experts-per-token N)",
    );
  }
  const rest = values.length / known.slice(-2).reduce((product, size) => product * size, 1);
  const shape =
    layers !== null && expertsPerToken !== null
      ? [rest, layers, expertsPerToken]
      : [tokens!, layers ?? rest, expertsPerToken ?? rest];
  if (shape.every((size) => Number.isInteger(size))) return { shape, values };
  return fail(
    `holds ${values.length} ids, which do not divide into ${known.join(" x ")}; does it belong to another model?`,
  );
}

function isNestedList(json: unknown): boolean {
  const first: unknown = Array.isArray(json) ? json[0] : undefined;
  const second: unknown = Array.isArray(first) ? first[0] : undefined;
  return Array.isArray(second) && (second.length === 0 || typeof second[0] === "number");
}

function nestedList(value: unknown, name: string, source: string): IntegerArray {
  const fail = (problem: string): never => {
    throw invalidTrace(
      `${quote(name)} in ${quote(source)} ${problem}, expected nested lists [tokens][layers][experts a token]`,
    );
  };
  if (!Array.isArray(value)) return fail(`is ${value === null ? "null" : `a ${typeof value}`}`);
  const layers: unknown = value[0];
  const ids: unknown = Array.isArray(layers) ? layers[0] : undefined;
  const shape = [value.length, Array.isArray(layers) ? layers.length : 0, Array.isArray(ids) ? ids.length : 0];
  const flat: number[] = [];
  for (const token of value as unknown[]) {
    if (!Array.isArray(token) || token.length !== shape[1]) return fail("has rows of different lengths");
    for (const row of token as unknown[]) {
      if (!Array.isArray(row) || row.length !== shape[2]) return fail("has rows of different lengths");
      for (const id of row as unknown[]) flat.push(typeof id === "number" ? id : fail("holds what is no number"));
    }
  }
  if (flat.length === 0 && value.length > 0) return fail("has no expert ids");
  return { shape: value.length === 0 ? [0, 0, 1] : shape, values: flat };
}
