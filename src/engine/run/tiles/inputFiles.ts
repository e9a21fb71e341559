import path from "node:path";
import { z } from "zod";
import { RerouteError } from "../../../protocol/errors";
import { writeFileAtomically } from "../../checkpoint/atomicFile";
import { contentKey } from "../../checkpoint/contentKey";
import { quote } from "../../checkpoint/quote";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../../checkpoint/safetensorsFile";
import { textRead, type TokenSequences } from "../../data/sequences";
import { hashOfFile } from "./tileStore";

export interface InputFile {
  name: string;
  sha256: string;
}

/** Writes the sequences that tiles are about, without documents, which only uncertainties are over. */
export async function writeTileText(folder: string, sequences: TokenSequences): Promise<InputFile> {
  const { ids, lengths, domainIds, domainNames, numSequences, sequenceLength, sourceSha256, promptLengths } = sequences;
  const name = `text-${contentKey(textRead(sequences)).slice(0, 16)}.safetensors`;
  const [file, rows] = [path.join(folder, name), [numSequences, sequenceLength]];
  const tensors = new Map<string, MemoryTensor>([
    ["ids", { dtype: "I32", shape: rows, data: ids }],
    ["lengths", { dtype: "I32", shape: [numSequences], data: lengths }],
    ["domainIds", { dtype: "U8", shape: rows, data: domainIds }],
  ]);
  if (promptLengths) tensors.set("promptLengths", { dtype: "I32", shape: [numSequences], data: promptLengths });
  await writeSafetensorsFile(file, tensors, { domainNames: JSON.stringify(domainNames), sourceSha256 });
  return { name, sha256: await hashOfFile(file) };
}

export async function readTileText(file: string): Promise<TokenSequences> {
  const { tensors, metadata } = await readSafetensorsFile(file);
  const [ids, lengths, domainIds, prompts] = ["ids", "lengths", "domainIds", "promptLengths"].map((name) =>
    tensors.get(name),
  );
  const names = z
    .array(z.string())
    .max(256)
    .safeParse(JSON.parse(metadata["domainNames"] ?? "null"));
  const [numSequences = 0, sequenceLength = 0] = ids?.shape ?? [];
  if (!ids || !lengths || !domainIds || !names.success || lengths.shape[0] !== numSequences)
    throw new RerouteError("run/invalid", `${quote(file)} holds no sequences; start the run again`);
  return {
    ids: new Int32Array(copyOf(ids.data)),
    lengths: new Int32Array(copyOf(lengths.data)),
    domainIds: new Uint8Array(copyOf(domainIds.data)),
    domainNames: names.data,
    ...(prompts ? { promptLengths: new Int32Array(copyOf(prompts.data)) } : {}),
    numSequences,
    sequenceLength,
    sourceSha256: metadata["sourceSha256"] ?? "",
  };
}

/** Writes what a tile reads that is no tensor. */
export async function writeTileJson(folder: string, what: string, value: unknown): Promise<InputFile> {
  const name = `${what}-${contentKey(value).slice(0, 16)}.json`;
  const file = path.join(folder, name);
  await writeFileAtomically(file, JSON.stringify(value));
  return { name, sha256: await hashOfFile(file) };
}

/** Named numbers, f32: weights that train, or their gradients, with numbers beside them that lose no bit. */
export async function writeNamed(
  file: string,
  values: ReadonlyMap<string, Float32Array>,
  numbers: Readonly<Record<string, number>> = {},
): Promise<void> {
  const tensors = new Map<string, MemoryTensor>();
  for (const [key, data] of values) tensors.set(key, { dtype: "F32", shape: [data.length], data });
  await writeSafetensorsFile(
    file,
    tensors,
    Object.fromEntries(Object.entries(numbers).map(([name, value]) => [name, String(value)])),
  );
}

export async function readNamed(file: string) {
  const { tensors, metadata } = await readSafetensorsFile(file);
  const values = new Map([...tensors].map(([key, { data }]) => [key, new Float32Array(copyOf(data))]));
  return { values, numbers: Object.fromEntries(Object.entries(metadata).map(([name, text]) => [name, Number(text)])) };
}

/** A buffer of its own: a tensor's bytes may begin anywhere in the file's. */
function copyOf(bytes: Uint8Array): ArrayBuffer {
  return new Uint8Array(bytes).buffer;
}
