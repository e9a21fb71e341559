import path from "node:path";
import { readdir, stat } from "node:fs/promises";
import { quote } from "../../checkpoint/quote";
import { readError, openRegularFile, readRange, readSmallFile } from "../../checkpoint/smallFile";
import { countImatrix, isLegacyImatrix, legacyImatrixError } from "./imatrix";
import { parseNpy, type IntegerArray, parseNpz } from "./npy";
import { addRecorders, countCsv, countLogical, csvHeader, recordedCounts } from "./sglang";
import { parseTorchFile } from "./torchFile";
import { invalidTrace, type TraceCounts } from "./traceCounts";
import { countRoutedExperts, findRoutedExperts, readSafetensorsIds, type KnownAxes } from "./vllm";

export const traceFormats = ["vllm", "sglang", "imatrix"] as const;
export type TraceFormat = (typeof traceFormats)[number];

/** Half an hour of a busy server: 10 million tokens of 48 layers and 8 experts a token fit four times. */
const maxTraceBytes = 2 ** 30;
/** JSON and CSV become strings, which cannot be much longer. */
const maxTextBytes = 2 ** 28;

export interface Trace {
  format: TraceFormat;
  counts: TraceCounts;
  notes: string[];
}

/**
 * Reads a trace that another program recorded; the format is told from the content unless it is given. A folder stands
 * for all .csv files in it, or else all .pt files (SGLang writes one a rank, and one each time it is asked).
 *
 * @param axes what is known of the model: plain arrays of ids do not say their shape
 * @throws RerouteError trace/invalid, checkpoint/not-found, checkpoint/limit
 */
export async function readTrace(
  file: string,
  format: TraceFormat | "auto",
  axes: KnownAxes = { layers: null, expertsPerToken: null },
): Promise<Trace> {
  const found = await tellFormat(file);
  const fits =
    found === "arrays" ? format !== "imatrix" : found === "recorders" ? format === "sglang" : found === format;
  if (format !== "auto" && !fits) {
    throw invalidTrace(`${quote(file)} is ${describe(found)}, which is no trace of the format ${format}`);
  }
  switch (found) {
    case "recorders":
      return { format: "sglang", ...(await readRecorders(file)) };
    case "imatrix":
      return { format: "imatrix", counts: await countImatrix(file), notes: [] };
    case "sglang":
      return { format: "sglang", ...countCsv(await readCsvFiles(file)) };
    case "vllm":
    case "arrays":
      return countArrays(await readArrays(file, axes), file, format);
  }
}

type Found = TraceFormat | "arrays" | "recorders";

async function tellFormat(file: string): Promise<Found> {
  if (await isFolder(file)) return (await filesOf(file, /\.csv$/)).length > 0 ? "sglang" : "recorders";
  const beginning = await readBeginning(file);
  const text = beginning.toString("latin1");
  if (text.startsWith("GGUF")) return "imatrix";
  if (isLegacyImatrix(beginning)) throw legacyImatrixError(file);
  if (text.startsWith(csvHeader)) return "sglang";
  if (text.startsWith("\x93NUMPY") || text.startsWith("PK")) return "arrays";
  if (/^\s*[[{]/.test(text)) return "arrays";
  if (file.endsWith(".safetensors")) return "vllm";
  if (/\.(?:pt|pth|pkl)$/.test(file)) {
    throw invalidTrace(
      `${quote(file)} is a bare pickle of an old torch.save, which can run code when it is loaded; save its logical_count as .npy: ` +
        `numpy.save("counts.npy", torch.load(...)["logical_count"].numpy())`,
    );
  }
  throw invalidTrace(
    `${quote(file)} is none of the traces that Reroute reads: vLLM's routed experts (.npy, .npz, .json, .safetensors), SGLang's ` +
      `expert distribution (.pt, .csv, logical_count as .npy), llama.cpp's importance matrix (.gguf)`,
  );
}

/** Ids [tokens, layers, k] of vLLM, or counts of SGLang; named so, or told apart by the format that was asked for. */
function countArrays(arrays: ReadonlyMap<string, IntegerArray>, file: string, format: TraceFormat | "auto"): Trace {
  const [logical] = [...arrays].filter(([name]) => /(?:^|[^a-z])logical_count$/.test(name));
  const [first] = arrays;
  const named = [...arrays.keys()].filter((name) => name.endsWith("routed_experts"));
  const counts = logical ?? (format === "sglang" && named.length === 0 ? first : undefined);
  if (counts && format !== "vllm") return { format: "sglang", counts: countLogical(counts[1], counts[0]), notes: [] };
  // SGLang's responses keep them in `meta_info`, vLLM's beside the text.
  const isSglang = format === "sglang" || named.some((name) => name.endsWith("meta_info.routed_experts"));
  return { format: isSglang ? "sglang" : "vllm", counts: countRoutedExperts(arrays, file), notes: [] };
}

async function readArrays(file: string, axes: KnownAxes): Promise<Map<string, IntegerArray>> {
  const name = path.basename(file);
  if (file.endsWith(".safetensors")) return readSafetensorsIds(file);
  const bytes = await readSmallFile(file, maxTraceBytes);
  if (bytes[0] === 0x93) return new Map([[path.basename(file, ".npy"), parseNpy(bytes, name)]]);
  if (bytes[0] === 0x50)
    return isTorchFile(bytes, file) ? recordedCounts(parseTorchFile(bytes, name), name) : parseNpz(bytes, name);
  return readJson(bytes, name, axes);
}

/** Both NumPy and PyTorch write ZIP archives; PyTorch's begins with its pickle. */
function isTorchFile(bytes: Uint8Array, file: string): boolean {
  const beginning = Buffer.from(bytes.subarray(0, 512)).toString("latin1");
  return /\.(?:pt|pth|pkl)$/.test(file) || beginning.includes("/data.pkl");
}

function readJson(bytes: Uint8Array, name: string, axes: KnownAxes): Map<string, IntegerArray> {
  if (bytes.length > maxTextBytes) {
    throw invalidTrace(
      `${quote(name)} has ${bytes.length} bytes, JSON of up to ${maxTextBytes} is read; save it as .npy`,
    );
  }
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  const whole = parsed(text);
  if (whole !== undefined) {
    const counts = isObject(whole) ? whole["logical_count"] : undefined;
    if (Array.isArray(counts)) return new Map([["logical_count", rectangular(counts, name)]]);
    return findRoutedExperts(whole, name, axes);
  }
  const arrays = new Map<string, IntegerArray>();
  for (const [i, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const value = parsed(line);
    if (value === undefined) throw invalidTrace(`${quote(name)} is neither JSON nor JSON Lines: line ${i + 1}`);
    for (const [key, array] of findRoutedExperts(value, name, axes)) arrays.set(`line ${i + 1}: ${key}`, array);
  }
  return arrays;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Nested lists of numbers, two or three deep. */
function rectangular(value: unknown[], name: string): IntegerArray {
  const shape: number[] = [];
  for (let at: unknown = value; Array.isArray(at) && shape.length < 4; at = at[0]) shape.push(at.length);
  const flat: unknown[] = value.flat(shape.length - 1);
  const elements = shape.reduce((product, size) => product * size, 1);
  if (flat.length !== elements || !flat.every((count) => typeof count === "number")) {
    throw invalidTrace(`logical_count in ${quote(name)} is no rectangular list of numbers`);
  }
  return { shape, values: flat };
}

async function readCsvFiles(file: string): Promise<{ name: string; text: string }[]> {
  const files = (await isFolder(file)) ? await filesOf(file, /\.csv$/) : [file];
  const texts: { name: string; text: string }[] = [];
  for (const one of files) {
    texts.push({
      name: path.basename(one),
      text: Buffer.from(await readSmallFile(one, maxTextBytes)).toString("utf8"),
    });
  }
  return texts;
}

/** Counts of all the recorder's .pt files of a folder. */
async function readRecorders(folder: string): Promise<{ counts: TraceCounts; notes: string[] }> {
  const files = await filesOf(folder, /\.(?:pt|pth|pkl)$/);
  if (files.length === 0) throw invalidTrace(`${quote(folder)} holds neither .csv nor .pt files of SGLang's recorder`);
  const counts: { name: string; counts: TraceCounts }[] = [];
  for (const file of files) {
    const name = path.basename(file);
    const [, recorded] = [...recordedCounts(parseTorchFile(await readSmallFile(file, maxTraceBytes), name), name)][0]!;
    counts.push({ name, counts: countLogical(recorded, name) });
  }
  return addRecorders(counts);
}

/** Files of a folder by their names, sorted. */
async function filesOf(folder: string, name: RegExp): Promise<string[]> {
  const names = (await readdir(folder)).filter((each) => name.test(each));
  return names.sort().map((each) => path.join(folder, each));
}

async function readBeginning(file: string): Promise<Buffer> {
  const handle = await openRegularFile(file);
  try {
    const { size } = await handle.stat();
    return Buffer.from(await readRange(handle, file, 0, Math.min(size, 512)));
  } finally {
    await handle.close();
  }
}

async function isFolder(file: string): Promise<boolean> {
  try {
    return (await stat(file)).isDirectory();
  } catch (error) {
    throw readError(error, file);
  }
}

function describe(found: Found): string {
  if (found === "recorders") return "a folder of SGLang's recorder";
  return found === "arrays" ? "an array of integers" : `a trace of ${found}`;
}
