import { arch, availableParallelism, cpus, release, totalmem } from "node:os";
import { freeDiskBytes } from "../../checkpoint/diskSpace";
import type { Checkpoint } from "../../checkpoint/checkpoint";
import { openCheckpoint } from "../../checkpoint/open";
import { scanForNonFinite } from "../../checkpoint/scan";
import { loadTokenizer } from "../../data/tokenizer";
import { smallestBudget } from "../../execution/memoryPlan";
import { GraphBuilder } from "../../graph/builder";
import { describeModel } from "../../model/families/index";
import { refuseUnread, unreadTensors } from "../../model/unread";
import { summariseCheckpoint } from "../../model/inspect";
import { errorCodeOf, isCancelled, RerouteError, throwIfCancelled, type ErrorCode } from "../../../protocol/errors";
import { BlockSession, probeRuntime } from "../../runtime/session";
import { engineVersion } from "../../../protocol/version";
import { askedDrivers, graphicsCards } from "./gpus";
import { availableMemoryBytes, defaultMemoryBudget } from "./machine";
import { describeProvider, offeredProviders } from "./providerChoice";

/** One thing that was looked at. */
export interface DoctorCheck {
  name: string;
  state: "ok" | "warning" | "problem";
  detail: string;
  /** Of a problem. */
  code?: ErrorCode;
}

export interface DoctorOptions {
  /** Where runs would be written. */
  workFolder: string;
  checkpoint?: string;
  /** Read every weight and look for NaN and infinity, instead of tensors up to 64 MiB in all. */
  readAll: boolean;
  signal: AbortSignal;
}

/** A run needs at least this much beside the model, or it will spill and recompile all the time. */
const comfortableBytes = 2 * 2 ** 30;
const scannedBytes = 64 * 2 ** 20;

/**
 * What an issue report needs to know: versions, the machine, whether onnxruntime loads and computes, and whether a
 * checkpoint can be used. Never throws but for cancellation: what goes wrong is a check's result.
 */
export async function examine(options: DoctorOptions): Promise<DoctorCheck[]> {
  const { workFolder, checkpoint, signal } = options;
  const checks = [
    await check("Versions", () => `reroute ${engineVersion}, Node ${process.version}`),
    await check("System", () => `${process.platform}-${arch()}, ${release()}`),
    await check("Processor", () => `${availableParallelism()} threads, ${cpus()[0]?.model.trim() ?? "unknown"}`),
    await check("Memory", memory),
    await check("Disk", () => disk(workFolder)),
    await check("onnxruntime", runtime),
    await check("Computation", () => computation(signal)),
    ...(await graphics(signal)),
  ];
  if (checkpoint !== undefined) {
    const found = await check("Checkpoint", () => structure(checkpoint));
    checks.push(found);
    // Nothing more can be said of what cannot be opened.
    if (found.state === "problem") return checks;
    const model = await check("Tensors", () => tensors(checkpoint));
    checks.push(model);
    // What is for inspection only needs no memory, and its reason is given once.
    if (model.state !== "problem") checks.push(await check("Memory needed", () => memoryNeeded(checkpoint)));
    checks.push(await check("Tokenizer", () => tokenizer(checkpoint)));
    checks.push(await check("Weights", () => weights(checkpoint, options.readAll, signal)));
  }
  return checks;
}

type Finding = string | { warning: string };

async function check(name: string, look: () => Finding | Promise<Finding>): Promise<DoctorCheck> {
  try {
    const found = await look();
    return typeof found === "string"
      ? { name, state: "ok", detail: found }
      : { name, state: "warning", detail: found.warning };
  } catch (error) {
    if (isCancelled(error)) throw error;
    const detail = error instanceof Error ? error.message : String(error);
    return { name, state: "problem", detail, code: errorCodeOf(error) };
  }
}

function memory(): Finding {
  const available = availableMemoryBytes();
  const text = `${gibibytes(available)} of ${gibibytes(totalmem())} available here, default budget ${gibibytes(defaultMemoryBudget())}`;
  return available < comfortableBytes ? { warning: `${text}; close other programs, or choose small models` } : text;
}

async function disk(folder: string): Promise<Finding> {
  return `${gibibytes(await freeDiskBytes(folder))} free in ${folder}`;
}

async function runtime(): Promise<Finding> {
  const { version, providers, reason } = await probeRuntime();
  if (reason !== null) throw new Error(reason);
  return `${version ?? "unknown version"}, providers ${providers.join(", ")}`;
}

/**
 * What each provider does here, where there is a graphics card or a driver was asked for. None of them is needed, so none is a
 * problem; a machine without one is not asked.
 */
async function graphics(signal: AbortSignal): Promise<DoctorCheck[]> {
  if (graphicsCards().length === 0 && askedDrivers(process.env) === null) return [];
  throwIfCancelled(signal);
  const look = async (): Promise<Finding> => {
    const found = [];
    for (const provider of await offeredProviders()) found.push(await describeProvider(provider));
    const text = found.map((one) => one.text).join("; ");
    return found.some(({ ready }) => ready) ? text : { warning: text };
  };
  return [await check("Graphics card", look)];
}

/** The smallest graph that goes all the way. */
async function computation(signal: AbortSignal): Promise<Finding> {
  throwIfCancelled(signal);
  const builder = new GraphBuilder();
  const graph = builder.build({ y: builder.scale(builder.input("x", ["T"], "float32"), 2) });
  const options = { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 } as const;
  const session = await BlockSession.create(graph, { runtime: options, keepFloat32Weights: false });
  try {
    const { y } = await session.run({ x: { type: "float32", shape: [2], data: Float32Array.of(1, 2) } });
    if (y?.data[0] !== 2 || y.data[1] !== 4) throw new Error("twice 1 and 2 is not 2 and 4 here");
    return "a graph runs and is right";
  } finally {
    await session.release();
  }
}

async function structure(folder: string): Promise<Finding> {
  const summary = await summariseCheckpoint(await openCheckpoint(folder));
  const moe = summary.layers.filter((layer) => layer.moe).length;
  const text = `${summary.modelType ?? "unknown family"}, ${summary.layers.length} layers, ${moe} with experts, ${summary.tensors} tensors, ${gibibytes(summary.bytes)}`;
  return text;
}

/** Whether every tensor is read, and how the files were. */
async function tensors(folder: string): Promise<Finding> {
  const checkpoint = await openCheckpoint(folder);
  const { unsupportedReason } = await summariseCheckpoint(checkpoint);
  const { description } = describeOr(checkpoint, unsupportedReason);
  refuseUnread(checkpoint, description);
  const unread = unreadTensors(checkpoint, description);
  const count = unread.reduce((sum, group) => sum + group.tensors, 0);
  const list = unread.slice(0, 3).map(({ pattern }) => pattern);
  const notes = checkpoint.notes ?? [];
  const text =
    count === 0
      ? "every tensor is read"
      : `${count} of ${checkpoint.tensors.size} are read by nothing, copied as they are: ${list.join(", ")}${unread.length > 3 ? ", ..." : ""}`;
  return notes.length > 0 ? { warning: [text, ...notes].join("; ") } : text;
}

/** As describeModel; where that fails, with the plainest reason for it. */
function describeOr(checkpoint: Checkpoint, reason: string | null): ReturnType<typeof describeModel> {
  try {
    return describeModel(checkpoint);
  } catch (error) {
    throw reason === null ? error : new RerouteError(errorCodeOf(error), `for inspection only: ${reason}`);
  }
}

async function memoryNeeded(folder: string): Promise<Finding> {
  const { description } = describeModel(await openCheckpoint(folder));
  const [profile, calibrate] = (["forward", "backward"] as const).map((way) => smallestBudget(description, 512, way));
  const text = `profile and evaluate from ${gibibytes(profile!)}, calibrate from ${gibibytes(calibrate!)}, with sequences of 512`;
  return calibrate! > defaultMemoryBudget() ? { warning: `${text}; more than this machine offers now` } : text;
}

async function tokenizer(folder: string): Promise<Finding> {
  const { vocabularySize, endOfTextId } = await loadTokenizer(folder);
  const text = `${vocabularySize} entries`;
  return endOfTextId === null ? { warning: `${text}, no end-of-text token: documents are joined without one` } : text;
}

async function weights(folder: string, readAll: boolean, signal: AbortSignal): Promise<Finding> {
  const checkpoint = await openCheckpoint(folder);
  const bySize = [...checkpoint.tensors.values()].sort((a, b) => a.byteLength - b.byteLength);
  let bytes = 0;
  const read = bySize.filter((tensor) => readAll || (bytes += tensor.byteLength) <= scannedBytes);
  const bad = await scanForNonFinite(
    checkpoint,
    read.map(({ name }) => name),
    signal,
  );
  const scope = `${read.length} of ${bySize.length} tensors read${read.length < bySize.length ? " (the smallest; --read-all reads all)" : ""}`;
  if (bad.length === 0) return `${scope}, all numbers finite`;
  return { warning: `${scope}; NaN or infinity in ${bad.length}, first in ${bad[0]!.name}` };
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}
