import { stat, readdir } from "node:fs/promises";
import path from "node:path";
import { RerouteError } from "../../protocol/errors";
import { readConfigFile } from "./configFile";
import { listHubModels, newestSnapshot } from "./hubCache";
import { quote } from "./quote";

/** Weights in formats that are not read, as their tools name them. */
const otherWeights = /\.(?:bin|pt|pth|ckpt|gguf|h5|msgpack|onnx|npz|nemo|distcp)$/i;

/**
 * Why a folder is no checkpoint, told from the names in it: what it is instead, and which folder beside or inside it is
 * meant.
 */
export async function explainFolder(directory: string, names: readonly string[]): Promise<RerouteError> {
  const notFound = (text: string) => new RerouteError("checkpoint/not-found", `${quote(directory)} ${text}`);
  if (names.includes("adapter_config.json")) return adapterError(directory);
  const modelFolder = hubModelFolder(directory, names);
  if (modelFolder !== null) {
    const snapshot = await newestSnapshot(modelFolder);
    return notFound(
      snapshot === null
        ? "is a model's folder in a Hugging Face cache without a snapshot; download the model"
        : `is a model's folder in a Hugging Face cache; open its snapshot, snapshots/${path.basename(snapshot)}`,
    );
  }
  if (names.some((name) => name.startsWith("models--"))) {
    const ids = (await listHubModels(directory)).map(({ id }) => id);
    const list = ids.slice(0, 5).map(quote).join(", ") + (ids.length > 5 ? ", ..." : "");
    return notFound(
      `is a Hugging Face cache; ${ids.length > 0 ? `name one of its models: ${list}` : "it holds no model with safetensors weights"}`,
    );
  }
  const hasConfig = names.includes("config.json");
  const others = names.filter((name) => otherWeights.test(name) && !name.startsWith("training_args"));
  const weights = names.filter((name) => name.endsWith(".safetensors"));
  const inside = await checkpointsInside(directory, names);
  if (weights.length === 0 && inside.length > 0) {
    return notFound(`is not a checkpoint itself; name one of the folders in it: ${inside.map(quote).join(", ")}`);
  }
  if (weights.length === 0 && others.length > 0) {
    const list = others.slice(0, 3).map(quote).join(", ");
    return notFound(
      others.every((name) => /\.gguf$/i.test(name))
        ? `holds GGUF files only (${list}), which can be inspected; use the checkpoint in safetensors that they were made from`
        : `holds no .safetensors file: it holds ${list}, which Reroute does not read, since such files can run code; convert the weights to safetensors first (in Python: from_pretrained, then save_pretrained)`,
    );
  }
  if (!hasConfig && names.includes("params.json")) {
    return notFound(
      "has no config.json but params.json: its weights are named as their makers name them; use the checkpoint in the layout of transformers (-hf)",
    );
  }
  return hasConfig
    ? notFound("holds no .safetensors file: check the path, or download the weights")
    : notFound("has no config.json: it is not a checkpoint; check the path, or download the missing files");
}

/** The folder models--org--name that a folder is, or is a part of. */
function hubModelFolder(directory: string, names: readonly string[]): string | null {
  if (names.includes("snapshots")) return directory;
  const parent = path.dirname(directory);
  const isPart = ["snapshots", "blobs", "refs"].includes(path.basename(directory));
  return isPart && path.basename(parent).startsWith("models--") ? parent : null;
}

async function adapterError(directory: string): Promise<RerouteError> {
  const config = await readConfigFile(path.join(directory, "adapter_config.json")).catch(() => ({}));
  const base = (config as { base_model_name_or_path?: unknown })["base_model_name_or_path"];
  const named = typeof base === "string" ? `its base is ${quote(base)}` : "adapter_config.json does not name its base";
  return new RerouteError(
    "checkpoint/adapter",
    `${quote(directory)} is an adapter (it holds adapter_config.json), no whole model: ${named}; merge it into the base first (in Python: PeftModel.merge_and_unload, then save_pretrained), or use the base`,
  );
}

/** Names of a few folders in a folder that look like checkpoints. */
async function checkpointsInside(directory: string, names: readonly string[]): Promise<string[]> {
  const found: string[] = [];
  for (const name of names.slice(0, 200)) {
    if (name.startsWith(".") || found.length === 3) continue;
    const folder = path.join(directory, name);
    if (!(await stat(folder).catch(() => null))?.isDirectory()) continue;
    const inside = await readdir(folder).catch((): string[] => []);
    if (inside.includes("config.json") && inside.some((file) => file.endsWith(".safetensors"))) found.push(name);
  }
  return found;
}
