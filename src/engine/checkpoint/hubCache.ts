import { existsSync } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import path from "node:path";
import type { HubModel } from "../../protocol/checkpointSummary";

/** "org/name" or "org/name@revision". */
const hubName = /^(\w[\w.-]*\/\w[\w.-]*)(?:@([\w.-]+))?$/;

/**
 * Where Hugging Face's libraries keep what they download, first what they read first: `HF_HUB_CACHE`, `HF_HOME`/hub,
 * `XDG_CACHE_HOME`/huggingface/hub, ~/.cache/huggingface/hub (constants.py of huggingface_hub).
 */
export function hubCacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const expanded = (name: string): string | undefined => environment[name]?.replace(/^~(?=$|[/\\])/, homedir());
  const home =
    expanded("HF_HOME") || path.join(expanded("XDG_CACHE_HOME") || path.join(homedir(), ".cache"), "huggingface");
  return path.resolve(expanded("HF_HUB_CACHE") || expanded("HUGGINGFACE_HUB_CACHE") || path.join(home, "hub"));
}

/** Models of a cache folder that have a snapshot with safetensors weights, by name. A folder that is not there has none. */
export async function listHubModels(cacheFolder: string = hubCacheFolder()): Promise<HubModel[]> {
  const models: HubModel[] = [];
  for (const name of await listOrNone(cacheFolder)) {
    const id = hubModelId(name);
    const snapshot = id === null ? null : await newestSnapshot(path.join(cacheFolder, name));
    if (snapshot === null) continue;
    const files = await listOrNone(snapshot);
    if (!files.includes("config.json") || !files.some((file) => file.endsWith(".safetensors"))) continue;
    const { mtimeMs } = await stat(snapshot);
    models.push({ id: id!, directory: snapshot, revision: path.basename(snapshot), modifiedMs: mtimeMs });
  }
  return models.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** "models--org--name" -> "org/name"; null for a folder that is no model's. */
export function hubModelId(folderName: string): string | null {
  const [, id] = /^models--(.+)$/.exec(folderName) ?? [];
  return id === undefined ? null : id.replace("--", "/");
}

/**
 * The snapshot that a model's folder in a cache means: the one of its `main` branch, which libraries load offline, else
 * the one last written; one with a config.json before one without. Null where the folder has none, or is no such folder.
 */
export async function newestSnapshot(modelFolder: string): Promise<string | null> {
  const folder = path.join(modelFolder, "snapshots");
  const main = await readFile(path.join(modelFolder, "refs", "main"), "utf8").catch(() => "");
  const found = await Promise.all(
    (await listOrNone(folder)).map(async (name) => {
      const directory = path.join(folder, name);
      const about = await stat(directory).catch(() => null);
      if (!about?.isDirectory()) return [];
      const hasConfig = (await listOrNone(directory)).includes("config.json");
      return [{ directory, hasConfig, isMain: name === main.trim(), modifiedMs: about.mtimeMs }];
    }),
  );
  const [newest] = found
    .flat()
    .sort(
      (a, b) =>
        Number(b.hasConfig) - Number(a.hasConfig) || Number(b.isMain) - Number(a.isMain) || b.modifiedMs - a.modifiedMs,
    );
  return newest?.directory ?? null;
}

/**
 * The checkpoint that a path means where it is no checkpoint itself: the newest snapshot of a model's folder in a Hugging
 * Face cache, or of "org/name" (with "@revision", that one) where nothing lies at that path and the cache has the model.
 * Every other path comes back as it is.
 *
 * @param written the path as the user wrote it; null where only a folder can be meant
 */
export async function resolveHubPath(
  absolute: string,
  written: string | null = null,
  cacheFolder: string = hubCacheFolder(),
): Promise<string> {
  if ((await stat(absolute).catch(() => null)) !== null) {
    const names = await listOrNone(absolute);
    const isModelFolder = names.includes("snapshots") && !names.includes("config.json");
    return (isModelFolder ? await newestSnapshot(absolute) : null) ?? absolute;
  }
  const [, id, revision] = hubName.exec(written ?? "") ?? [];
  if (id === undefined) return absolute;
  const folder = path.join(cacheFolder, `models--${id.replace("/", "--")}`);
  const found = revision === undefined ? await newestSnapshot(folder) : path.join(folder, "snapshots", revision);
  return found !== null && (await stat(found).catch(() => null)) !== null ? found : absolute;
}

/** Where both were looked for: why "org/name" that was resolved to `found` means nothing; null for what is there, or is a path. */
export function hubModelMissing(written: string, found: string): string | null {
  if (!hubName.test(written) || existsSync(found)) return null;
  return `no such file or folder: ${found}; nor has the Hugging Face cache ${hubCacheFolder()} a model ${written}; check the path, or download the model`;
}

async function listOrNone(folder: string): Promise<string[]> {
  return readdir(folder).catch(() => []);
}
