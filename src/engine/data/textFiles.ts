import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { glob, isDynamicPattern } from "tinyglobby";
import { RerouteError, throwIfCancelled } from "../../protocol/errors";
import { textCompressions, textFormatOf, textFormats } from "../../protocol/textFormats";
import { malformedRow } from "./formats/row";
import { readJson } from "./tokenizerFiles";

const kinds = `${Object.keys(textFormats)
  .map((extension) => `.${extension}`)
  .join(", ")}, each also as ${textCompressions.map((ending) => `.${ending}`).join(" or ")}`;
/** What `datasets` and the Hub write beside the data. */
const metadataFiles = new Set(["dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"]);

/**
 * The files a corpus consists of, in the order they are read:
 *
 * - a file: itself;
 * - a folder that `datasets` saved (save_to_disk): the Arrow files that its state.json lists; of several splits "train", or the
 *   only one;
 * - another folder: its files of a kind that is read (not in its sub-folders, but for `data`, where the Hub's data sets have
 *   theirs), sorted by name;
 * - a pattern such as `texts/**` + `/*.jsonl`: the files it matches, sorted.
 *
 * @throws `data/not-found`, or `data/malformed` for a file of another kind
 */
export async function listTextFiles(path: string): Promise<string[]> {
  try {
    const found = await stat(path).catch((cause: unknown) => {
      if (isDynamicPattern(path)) return null;
      throw cause;
    });
    if (found === null) return await matchFiles(path);
    if (found.isDirectory()) return await filesOfFolder(path);
    if (!found.isFile()) throw new RerouteError("data/not-found", `${path} is neither a file nor a folder`);
  } catch (cause) {
    throw cause instanceof RerouteError ? cause : unreadable(path, cause);
  }
  if (textFormatOf(path) !== null) return [path];
  throw malformedRow(`${path} is not a kind of text file that is read, expected ${kinds}, or a folder of them`);
}

async function matchFiles(pattern: string): Promise<string[]> {
  const posix = process.platform === "win32" ? pattern.replaceAll("\\", "/") : pattern;
  const files = (await glob(posix, { absolute: true, dot: false, onlyFiles: true })).sort();
  const readable = files.filter((file) => textFormatOf(file) !== null && !metadataFiles.has(basename(file)));
  if (readable.length > 0) return readable;
  const others = files.length > 0 ? `; ${files.length} files of other kinds match, expected ${kinds}` : "";
  throw new RerouteError("data/not-found", `no text file matches ${pattern}${others}`);
}

async function filesOfFolder(folder: string): Promise<string[]> {
  const names = (await readdir(folder)).sort();
  if (names.includes("dataset_dict.json")) return filesOfFolder(join(folder, await splitOf(folder)));
  if (names.includes("state.json")) {
    const listed = await arrowFiles(folder);
    if (listed !== null) return listed;
  }
  const files: string[] = [];
  for (const name of names) {
    if (textFormatOf(name) === null || metadataFiles.has(name)) continue;
    if ((await stat(join(folder, name))).isFile()) files.push(join(folder, name));
  }
  if (files.length > 0) return files;
  if (names.includes("data") && (await stat(join(folder, "data"))).isDirectory())
    return filesOfFolder(join(folder, "data"));
  throw new RerouteError(
    "data/not-found",
    `${folder} holds no text file, expected ${kinds}. Sub-folders are read with a pattern, such as "${folder}/**/*.jsonl"`,
  );
}

async function splitOf(folder: string): Promise<string> {
  const splits = (await readJson(join(folder, "dataset_dict.json")))?.splits;
  const names = Array.isArray(splits)
    ? splits.filter((name) => typeof name === "string" && /^[\w.-]+$/.test(name))
    : [];
  const split: unknown = names.includes("train") ? "train" : names[0];
  if (typeof split === "string" && (names.length === 1 || split === "train")) return split;
  throw new RerouteError(
    "data/not-found",
    `${folder} has the splits ${names.join(", ") || "(none)"}; name the folder of one`,
  );
}

/** `_data_files` of state.json, in the order of the data set; null where it is no such file. */
async function arrowFiles(folder: string): Promise<string[] | null> {
  const state = await readJson(join(folder, "state.json"));
  const listed = state?._data_files;
  if (!Array.isArray(listed)) return null;
  if (Array.isArray(state?._indices_data_files) && state._indices_data_files.length > 0) {
    throw malformedRow(`${folder} holds a selection of its rows in an index file; save it after flatten_indices()`);
  }
  return listed.map((item: unknown) => {
    const { filename } = (item ?? {}) as { filename?: unknown };
    // The list is untrusted: it names files of this folder.
    if (typeof filename === "string" && basename(filename) === filename && filename.endsWith(".arrow"))
      return join(folder, filename);
    throw malformedRow(
      `${folder} has a state.json that lists ${JSON.stringify(filename ?? null).slice(0, 80)}, expected .arrow files beside it`,
    );
  });
}

/**
 * SHA-256, hex: of the bytes of a text file; of several, of the lines `<name>\t<SHA-256 of its bytes>\n` of the files, in the
 * order they are read.
 *
 * @throws `data/not-found`, `cancelled`
 */
export async function hashTextFiles(path: string, signal?: AbortSignal): Promise<string> {
  const files = await listTextFiles(path);
  if (files.length === 1 && files[0] === path) return hashFile(path, signal);
  const all = createHash("sha256");
  for (const file of files) all.update(`${basename(file)}\t${await hashFile(file, signal)}\n`);
  return all.digest("hex");
}

async function hashFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 2 ** 20 }) as AsyncIterable<Buffer>) {
      throwIfCancelled(signal);
      hash.update(chunk);
    }
  } catch (cause) {
    throw cause instanceof RerouteError ? cause : unreadable(path, cause);
  }
  return hash.digest("hex");
}

/** What the file system says of a text, with its path. */
export function unreadable(path: string, cause: unknown): RerouteError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const missing = code === "ENOENT" || code === "ENOTDIR";
  return new RerouteError("data/not-found", missing ? `${path} does not exist` : `${path} cannot be read: ${message}`, {
    cause,
  });
}
