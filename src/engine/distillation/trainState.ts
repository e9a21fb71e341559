import { access } from "node:fs/promises";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../checkpoint/safetensorsFile";
import { RerouteError } from "../../protocol/errors";
import { initAdamW, type AdamWState } from "./adamW";

/** Everything that continues a calibration to the same bytes; on disk after every update. */
export interface TrainState {
  /** Hash of what decides the result: checkpoints, data, options. A state of other inputs is not continued. */
  inputHash: string;
  /** Updates done; batches follow from it, the seed and the number of sequences. */
  step: number;
  parameters: Map<string, Float32Array>;
  optimiser: AdamWState;
  /** Parameters of the best held-out evaluation so far; null before the first, or where nothing is held out. */
  best: (HeldOutResult & { step: number; parameters: Map<string, Float32Array> }) | null;
  /** Held-out KL before the first update. */
  initialKl: number | null;
  /** Held-out evaluations since the last new best. */
  evaluationsWithoutImprovement: number;
  finished: boolean;
  /** Copies of the teacher's routers that train (routing student-aware); null before the first round, and without it. */
  routers: RouterState | null;
  /** The last round whose router steps are done; -1 before the first. */
  routerRound: number;
  routersFrozen: boolean;
}

/** Copies of the teacher's routers that train, and their optimiser. */
export interface RouterState {
  parameters: Map<string, Float32Array>;
  optimiser: AdamWState;
}

/** What a held-out evaluation found: mean KL to the teacher and mean loss, nats a target position. */
export interface HeldOutResult {
  kl: number;
  nll: number;
}

/** The state before the first update; it takes the arrays over. */
export function initialState(inputHash: string, parameters: ReadonlyMap<string, Float32Array>): TrainState {
  return {
    inputHash,
    step: 0,
    parameters: new Map(parameters),
    optimiser: initAdamW(parameters),
    best: null,
    initialKl: null,
    evaluationsWithoutImprovement: 0,
    finished: false,
    ...noRouters,
  };
}

const noRouters = { routers: null, routerRound: -1, routersFrozen: false };

export function copyParameters(parameters: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> {
  return new Map([...parameters].map(([key, values]) => [key, values.slice()]));
}

/** Size of a state on disk. */
export function stateBytes({ parameters }: TrainState, holdsBest: boolean): number {
  const numbers = [...parameters.values()].reduce((sum, { length }) => sum + length, 0);
  return numbers * 4 * (holdsBest ? 4 : 3);
}

export async function saveState(file: string, state: TrainState): Promise<void> {
  const tensors = new Map<string, MemoryTensor>();
  const add = (prefix: string, parameters: ReadonlyMap<string, Float32Array>) => {
    for (const [key, data] of parameters) tensors.set(`${prefix}/${key}`, { dtype: "F32", shape: [data.length], data });
  };
  add("parameter", state.parameters);
  add("m", state.optimiser.m);
  add("v", state.optimiser.v);
  if (state.best !== null) add("best", state.best.parameters);
  const { routers, routerRound, routersFrozen } = state;
  if (routers !== null) {
    add("teacher-router", routers.parameters);
    add("teacher-m", routers.optimiser.m);
    add("teacher-v", routers.optimiser.v);
  }
  const { inputHash, step, initialKl, evaluationsWithoutImprovement, finished, best } = state;
  const summary = {
    version: 1,
    inputHash,
    step,
    initialKl,
    // The name in files of version 1.
    looksWithoutGain: evaluationsWithoutImprovement,
    finished,
    best: best && { step: best.step, kl: best.kl, nll: best.nll },
    ...(routers === null
      ? {}
      : { routers: { round: routerRound, frozen: routersFrozen, step: routers.optimiser.step } }),
  };
  await writeSafetensorsFile(file, tensors, { reroute: JSON.stringify(summary) });
}

/**
 * The state in a file; null where there is none, or where it belongs to other inputs.
 * @throws RerouteError `run/invalid` where the file cannot be a state
 */
export async function loadState(file: string, inputHash: string): Promise<TrainState | null> {
  try {
    await access(file);
  } catch {
    return null;
  }
  const { metadata, tensors } = await readSafetensorsFile(file);
  const summary = parseSummary(file, metadata["reroute"]);
  if (summary.inputHash !== inputHash) return null;
  const take = (prefix: string) =>
    new Map(
      [...tensors].flatMap(([name, { data, dtype }]) => {
        if (!name.startsWith(`${prefix}/`)) return [];
        if (dtype !== "F32") throw notAState(file);
        return [[name.slice(prefix.length + 1), toFloats(data)] as const];
      }),
    );
  const { step, initialKl, looksWithoutGain, finished, best, routers } = summary;
  return {
    inputHash,
    step,
    parameters: take("parameter"),
    optimiser: { m: take("m"), v: take("v"), step },
    best: best && { ...best, parameters: take("best") },
    initialKl,
    evaluationsWithoutImprovement: looksWithoutGain,
    finished,
    ...(routers === undefined
      ? noRouters
      : {
          routers: {
            parameters: take("teacher-router"),
            optimiser: { m: take("teacher-m"), v: take("teacher-v"), step: routers.step },
          },
          routerRound: routers.round,
          routersFrozen: routers.frozen,
        }),
  };
}

type Summary = Pick<TrainState, "inputHash" | "step" | "initialKl" | "finished"> & {
  looksWithoutGain: number;
  best: (HeldOutResult & { step: number }) | null;
  routers?: { round: number; frozen: boolean; step: number };
};

function parseSummary(file: string, text: string | undefined): Summary {
  try {
    const summary = JSON.parse(text ?? "") as Summary & { version: number };
    if (summary.version === 1 && Number.isInteger(summary.step)) return summary;
  } catch {
    // Falls through to the error below.
  }
  throw notAState(file);
}

function notAState(file: string): RerouteError {
  return new RerouteError("run/invalid", `${file} is not a training state; remove it to start the calibration again`);
}

/** A view where the bytes are aligned, as they are in files of ours: a state may be most of the memory there is. */
function toFloats(data: Uint8Array): Float32Array {
  const aligned = data.byteOffset % 4 === 0 ? data : new Uint8Array(data);
  return new Float32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
}
