import { readdir, stat } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import type { Shard } from "../checkpoint/checkpoint";
import { readError } from "../checkpoint/smallFile";
import { isGgufPath, openGguf, type GgufFile, type GgufTensor } from "./header";
import type { GgufValue } from "./metadata";
import { maxShards, maxTensors } from "../checkpoint/limits";
import { quote } from "../checkpoint/quote";

/** A GGUF model: one file, or all files of a split one. Headers only. */
export interface GgufModel {
  /** The file, or the first of the split ones. */
  path: string;
  version: number;
  metadata: ReadonlyMap<string, GgufValue>;
  /** By file, then by place in it. */
  tensors: GgufTensor[];
  shards: Shard[];
}

/** Names that llama.cpp's gguf-split gives: `<prefix>-00001-of-00003.gguf`. */
const splitName = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/i;

/**
 * Opens a GGUF model from any of its files.
 * @throws RerouteError checkpoint/not-found where a part of a split model is missing; codes of openGguf
 */
export async function openGgufModel(filePath: string): Promise<GgufModel> {
  const absolute = path.resolve(filePath);
  const names = splitNames(path.basename(absolute));
  const files: GgufFile[] = [];
  for (const name of names) files.push(await openGguf(path.join(path.dirname(absolute), name)));
  const tensors = files.flatMap((file) => file.tensors);
  if (tensors.length > maxTensors) {
    throw new RerouteError("checkpoint/limit", `the model has more than ${maxTensors} tensors, which is the limit`);
  }
  refuseRepeated(tensors);
  return {
    path: path.join(path.dirname(absolute), names[0]!),
    version: files[0]!.version,
    metadata: files[0]!.metadata,
    tensors,
    shards: files.map(({ shard }) => shard),
  };
}

/**
 * The GGUF model that a path means for inspection: a .gguf file, or a folder that holds one GGUF model and nothing in
 * safetensors; null for everything else. What lies beside a model (a projector of pictures, an importance matrix, an
 * adapter, a vocabulary) is none, and is named in the notes.
 * @throws RerouteError checkpoint/not-found where a folder holds several models
 */
export async function findGguf(anyPath: string): Promise<{ path: string; notes: string[] } | null> {
  if (isGgufPath(anyPath)) return { path: anyPath, notes: [] };
  const names = await listIfFolder(anyPath);
  if (names.some((name) => name.endsWith(".safetensors") || name.endsWith(".safetensors.index.json"))) return null;
  const found = names.filter((name) => isGgufPath(name) && Number(splitName.exec(name)?.[2] ?? 1) === 1).sort();
  const models: string[] = [];
  const notes: string[] = [];
  for (const name of found) {
    const kind = found.length > 1 ? await kindBesideModel(path.join(anyPath, name), name) : null;
    if (kind === null) models.push(name);
    else notes.push(`${name} lies beside the model and is not counted: ${kind}`);
  }
  if (models.length > 1) {
    throw new RerouteError(
      "checkpoint/not-found",
      `${quote(anyPath)} holds ${models.length} GGUF models (${models.slice(0, 3).map(quote).join(", ")}); name one of the files`,
    );
  }
  const [model] = models;
  if (model !== undefined) return { path: path.join(anyPath, model), notes };
  return found[0] === undefined ? null : { path: path.join(anyPath, found[0]), notes: [] };
}

/** Files beside models by `general.type`, or by their names where that is not written. */
const besideModels: readonly (readonly [type: string, name: RegExp, kind: string])[] = [
  ["mmproj", /mmproj/i, "a projector of pictures or sound"],
  ["imatrix", /imatrix/i, "an importance matrix"],
  ["adapter", /^(?!)/, "an adapter"],
  ["vocab", /^(?!)/, "a vocabulary"],
];

/** What a GGUF file is other than a model; null for a model, and for what cannot be read, which opening it explains. */
async function kindBesideModel(file: string, name: string): Promise<string | null> {
  const named = besideModels.find(([, pattern]) => pattern.test(name));
  if (named !== undefined) return named[2];
  const metadata = await openGguf(file).then(
    (opened) => opened.metadata,
    () => new Map<string, GgufValue>(),
  );
  if (metadata.get("general.architecture") === "clip") return besideModels[0]![2];
  return besideModels.find(([type]) => type === metadata.get("general.type"))?.[2] ?? null;
}

function splitNames(name: string): string[] {
  const [, prefix, , total] = splitName.exec(name) ?? [];
  if (prefix === undefined || total === undefined) return [name];
  const count = Number(total);
  if (count < 1 || count > maxShards) {
    throw new RerouteError(
      "checkpoint/limit",
      `${quote(name)} says that there are ${count} files, 1 to ${maxShards} can be`,
    );
  }
  const suffix = name.slice(-".gguf".length);
  return Array.from({ length: count }, (_, i) => `${prefix}-${String(i + 1).padStart(5, "0")}-of-${total}${suffix}`);
}

function refuseRepeated(tensors: readonly GgufTensor[]): void {
  const seen = new Map<string, GgufTensor>();
  for (const tensor of tensors) {
    const first = seen.get(tensor.name);
    if (first) {
      throw new RerouteError(
        "checkpoint/malformed",
        `tensor ${quote(tensor.name)} is in two files, ${quote(first.shard.name)} and ${quote(tensor.shard.name)}; expected one`,
      );
    }
    seen.set(tensor.name, tensor);
  }
}

async function listIfFolder(anyPath: string): Promise<string[]> {
  try {
    return (await stat(anyPath)).isDirectory() ? await readdir(anyPath) : [];
  } catch (error) {
    throw readError(error, anyPath);
  }
}
