import path from "node:path";
import type { TokenSequences } from "../../src/engine/data/sequences";
import { goldenCheckpoint, readGoldenFile, type Golden } from "./goldens";
import { openModel } from "./tinyModels";

const folder = path.join(import.meta.dirname, "../fixtures/distillation");

/** Teachers with goldens of distillation: the tiny checkpoints of the families' goldens, and a dense student of each. */
export const taughtFamilies = ["mixtral", "qwen3_moe", "olmoe", "deepseek_v3"] as const;
export type TaughtFamily = (typeof taughtFamilies)[number];

/** Numbers of PyTorch and transformers; make_kd_goldens.py beside the files defines each. */
export function distillationGolden(family: TaughtFamily, file: string): Promise<Golden> {
  return readGoldenFile(path.join(folder, family, `${file}.safetensors`));
}

export function openTeacher(family: TaughtFamily) {
  return openModel(goldenCheckpoint(family));
}

export function openStudent(family: TaughtFamily) {
  return openModel(path.join(folder, family, "student"));
}

/** Folder of a teacher's dense student. */
export function studentFolder(family: TaughtFamily): string {
  return path.join(folder, family, "student");
}

/** The goldens' sequences, the second with four tokens of padding. */
export function goldenTokens(golden: Golden): TokenSequences & { targets: Uint8Array } {
  const { values, shape } = golden.get("input_ids")!;
  const [numSequences, sequenceLength] = shape as [number, number];
  return {
    ...{ ids: Int32Array.from(values), numSequences, sequenceLength, lengths: Int32Array.of(24, 20) },
    ...{ domainIds: new Uint8Array(values.length), domainNames: ["text"], sourceSha256: "" },
    targets: Uint8Array.from(golden.get("targets")!.values),
  };
}
