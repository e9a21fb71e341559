import path from "node:path";
import { lstat, readdir, realpath, stat } from "node:fs/promises";
import { incompleteMarker } from "./atomicFile";
import { readError } from "./smallFile";

/** A file beside the weights that a checkpoint of the same tokenizer, code and templates needs. */
export interface CompanionFile {
  /** Path below the checkpoint's folder, with "/". */
  name: string;
  /** Where it is read from. */
  source: string;
  bytes: number;
}

/** The largest known tokenizer.json has 33 MB. */
const maxFileBytes = 128 * 2 ** 20;
const maxFiles = 2000;
/** Custom code and templates lie one folder deep; packages of code a few. */
const maxDepth = 4;

const weightFile =
  /\.(?:safetensors|bin|pt|pth|ckpt|gguf|ggml|h5|msgpack|onnx|onnx_data|npz|npy|tflite|nemo|distcp|pdparams|mlmodel)$/i;
/** Never copied, as loaders would take them for a part of the new checkpoint, or readers for its description. */
const otherFile =
  /^\.|\.index\.json$|^(?:config|reroute|adapter_config|trainer_state)\.json$|^README(?:\.\w+)?$|tfevents|^Thumbs\.db$/i;
const otherFolder = /^\.|^(?:__pycache__|node_modules|venv|env|wandb)$/;
/** Files that show that a folder is something by itself: a run, an output of Reroute, a model. */
const markers = ["run.json", "reroute.json", incompleteMarker];

/**
 * Files of a checkpoint's folder that go along with its weights, sorted: everything but weights and their indexes, model
 * cards (they describe another model), hidden and version-control files, caches, folders with weights or runs in them,
 * files above 128 MiB, and links that lead elsewhere than into the folder or to where its weights really lie.
 *
 * @param except a folder that is not looked into, such as the output
 * @throws RerouteError checkpoint/not-found
 */
export async function companionFiles(directory: string, except?: string): Promise<CompanionFile[]> {
  try {
    const found: CompanionFile[] = [];
    const homes = await homesOf(directory);
    await collect(directory, "", homes, except === undefined ? undefined : path.resolve(except), found);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    throw readError(error, directory);
  }
}

/** Folders that a link may lead to: the checkpoint's own, and those that its weights and config.json really lie in. */
async function homesOf(directory: string): Promise<Set<string>> {
  const linked = (await readdir(directory)).filter((name) => name === "config.json" || name.endsWith(".safetensors"));
  const real = await Promise.all(linked.map((name) => realpath(path.join(directory, name)).catch(() => null)));
  return new Set([await realpath(directory), ...real.flatMap((file) => (file === null ? [] : [path.dirname(file)]))]);
}

async function collect(
  directory: string,
  below: string,
  homes: ReadonlySet<string>,
  except: string | undefined,
  found: CompanionFile[],
): Promise<void> {
  const names = (await readdir(directory)).sort();
  if (below !== "" && names.some((name) => weightFile.test(name) || markers.includes(name))) return;
  const folders: string[] = [];
  for (const name of names) {
    if (found.length >= maxFiles) return;
    const source = path.join(directory, name);
    const entry = await lstat(source);
    if (entry.isDirectory()) {
      if (!otherFolder.test(name) && path.resolve(source) !== except) folders.push(name);
      continue;
    }
    if (weightFile.test(name) || otherFile.test(name)) continue;
    if (entry.isSymbolicLink() && !(await leadsHome(source, homes))) continue;
    const { size } = await stat(source);
    if ((entry.isFile() || entry.isSymbolicLink()) && size <= maxFileBytes) {
      found.push({ name: below + name, source, bytes: size });
    }
  }
  if (below.split("/").length > maxDepth) return;
  for (const name of folders) await collect(path.join(directory, name), `${below}${name}/`, homes, except, found);
}

async function leadsHome(link: string, homes: ReadonlySet<string>): Promise<boolean> {
  const target = await realpath(link).catch(() => null);
  if (target === null || !(await stat(target)).isFile()) return false;
  return [...homes].some((home) => target.startsWith(home + path.sep));
}
