import path from "node:path";
import { z } from "zod";
import { writeFileAtomically } from "../checkpoint/atomicFile";
import { contentKey } from "../checkpoint/contentKey";
import { readSmallFile } from "../checkpoint/smallFile";
import { tokensRead, type TokenSequences } from "../data/sequences";
import { hiddenNames, PassState, type PassSums } from "../execution/passState";
import type { ExecutionPlan } from "../execution/memoryPlan";
import type { ModelDescription } from "../model/description";
import { fidelitySums } from "../routing/fidelity";
import type { RuntimeOptions } from "../runtime/session";
import type { PassMeter } from "./passMeter";
import type { RouterTrace, RoutingComparisonObserver } from "./routerTrace";

/** Where an interrupted evaluation keeps what it needs to go on, and what tells its models from others. */
export interface EvaluationResume {
  directory: string;
  /** Fingerprints; the teacher's is null without one. */
  model: string;
  teacher: string | null;
  /** Seconds between saves, at least: a save costs a flush to disk. 0: every layer is saved. */
  saveEverySeconds?: number;
  /**
   * Where the teacher's pass is kept instead, to its end, for evaluations against the same teacher on the same sequences
   * from other folders, one at a time.
   */
  teacherDirectory?: string;
}

/** What a pass over the sequences is, as far as its last bits go. */
interface Pass {
  sequences: TokenSequences;
  runtime: RuntimeOptions;
  /** The executor's plan: other chunks give other last bits. */
  plan: ExecutionPlan;
  description: ModelDescription;
}

type Role = "teacher" | "student";

/** A pass that is not done: how far it is and what it added up, beside its hidden states. */
const keptPass = z.object({
  version: z.literal(2),
  key: z.string(),
  layers: z.int().min(1),
  chunks: z.array(z.object({ tokens: z.int().min(1), seconds: z.number().min(0) })),
  peakMemoryBytes: z.number().min(0),
  /** Teacher: layers whose routing lies in files of their own; null where nobody asked for it. */
  trace: z.array(z.int().min(0)).nullable(),
  /** Student: what its routing was found to differ by. */
  fidelity: z.array(fidelitySums),
});
type KeptPass = z.infer<typeof keptPass>;

/** Sums of 100 layers of 512 experts are below 2 MB. */
const maxStateBytes = 64 * 2 ** 20;

/**
 * The state of a teacher's pass over the sequences. Its routing is written once a layer, its hidden states at every save.
 */
export function teacherState(
  { directory: own, teacherDirectory: directory = own, saveEverySeconds }: EvaluationResume,
  fingerprint: string,
  pass: Pass,
  trace: RouterTrace | null,
  meter: PassMeter,
): PassState {
  const key = keyOf(["teacher", fingerprint], pass);
  const fileOf = (layer: number, part: string) =>
    path.join(directory, `evaluation-teacher-trace-${key.slice(0, 16)}-${layer}-${part}.f32`);
  const sums = passSums(directory, "teacher", meter, {
    save: async () => {
      await trace?.save(fileOf);
      return { trace: trace?.layers() ?? null, fidelity: [] };
    },
    load: async (kept) => {
      if (trace === null) return () => undefined;
      const routed = routedLayers(pass.description, kept.layers);
      if (kept.trace === null || !isSame(kept.trace, routed)) return null;
      return trace.open(kept.trace, pass.description, fileOf);
    },
  });
  return new PassState("evaluation-teacher", sums, key, directory, saveEverySeconds ?? leastSeconds);
}

/** The state of a student's pass, compared with its teacher's while it runs. */
export function studentState(
  { directory, saveEverySeconds, model, teacher }: EvaluationResume,
  pass: Pass & { expertMapping: Record<string, number[][]> | null },
  comparison: RoutingComparisonObserver,
  meter: PassMeter,
): PassState {
  const key = keyOf(["student", model, teacher, pass.expertMapping], pass);
  const sums = passSums(directory, "student", meter, {
    save: () => Promise.resolve({ trace: null, fidelity: comparison.sums() }),
    load: (kept) => {
      const compared = routedLayers(pass.description, kept.layers).filter((layer) => comparison.compares(layer));
      const isWhole = isSame(
        kept.fidelity.map(({ layer }) => layer),
        compared,
      );
      const fits = isWhole && kept.fidelity.every((layer) => comparison.fits(layer));
      return Promise.resolve(fits ? () => comparison.restore(kept.fidelity) : null);
    },
  });
  return new PassState("evaluation-student", sums, key, directory, saveEverySeconds ?? leastSeconds);
}

/** Whether a file belongs to the state of such a pass. */
export function isEvaluationState(name: string, role: Role): boolean {
  return (
    name === stateFile(role) ||
    hiddenNames(`evaluation-${role}`).test(name) ||
    (role === "teacher" && /^evaluation-teacher-trace-[0-9a-f]{16}-\d+-(logits|selected)\.f32$/.test(name))
  );
}

const leastSeconds = 5;

function stateFile(role: Role): string {
  return `evaluation-${role}-state.json`;
}

/**
 * Everything that decides what the sums are behind a layer, to the last bit. The memory budget only does so by how the plan
 * cuts work up: two runs whose budgets differ by what happened to be free have the same key.
 */
function keyOf(identity: unknown[], { sequences, runtime: { threads, provider }, plan }: Pass): string {
  const cuts = Object.entries(plan).filter(([name]) => !name.endsWith("Bytes"));
  return contentKey({ identity, tokens: tokensRead(sequences), cuts, threads, provider });
}

interface SumsParts {
  save: () => Promise<Pick<KeptPass, "trace" | "fidelity">>;
  /** What gives kept sums back; null where they do not fit. */
  load: (kept: KeptPass) => Promise<(() => void) | null>;
}

function passSums(directory: string, role: Role, meter: PassMeter, parts: SumsParts): Pick<PassSums, "save" | "load"> {
  const file = path.join(directory, stateFile(role));
  return {
    save: async (key, { layers }) => {
      const sums = await parts.save();
      const kept: KeptPass = { version: 2, key, layers, ...meter.measured(), ...sums };
      await writeFileAtomically(file, `${JSON.stringify(kept)}\n`);
    },
    load: async (key) => {
      const kept = await readKept(file);
      if (kept?.key !== key) return null;
      const restore = await parts.load(kept);
      if (restore === null) return null;
      const position = { shard: 0, layers: kept.layers };
      return {
        position,
        restore: () => {
          meter.restore(kept);
          restore();
        },
      };
    },
  };
}

/** Null for a file that is not there or cannot be read: the pass then begins anew. */
async function readKept(file: string): Promise<KeptPass | null> {
  try {
    const text = Buffer.from(await readSmallFile(file, maxStateBytes)).toString("utf8");
    return keptPass.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Numbers of the layers with routers among the first ones. */
function routedLayers({ layers }: ModelDescription, count: number): number[] {
  return layers.slice(0, count).flatMap(({ index, feedForward }) => (feedForward.kind === "moe" ? [index] : []));
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return JSON.stringify([...a].sort(byNumber)) === JSON.stringify([...b].sort(byNumber));
}

function byNumber(a: number, b: number): number {
  return a - b;
}
