import { readFileSync, statSync } from "node:fs";
import { mkdir, open, rm } from "node:fs/promises";
import path from "node:path";
import type { ReportProgress } from "../../protocol/progress";
import { writeAll, writeError, writeFileAtomically } from "../checkpoint/atomicFile";
import { contentKey } from "../checkpoint/contentKey";
import { readInto } from "../checkpoint/smallFile";
import { sliceSequences, tokensRead, type TokenSequences } from "../data/sequences";
import { tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import { MemoryHiddenStates, StoredHiddenStates, type HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import { VocabularyHead } from "../execution/vocabularyHead";
import type { RuntimeOptions } from "../runtime/session";
import { bytesOf } from "../tensor/floatCodec";
import { RouterLogitTargets } from "./routerLogitTargets";
import type { LogitMapping } from "./routerLogits";
import { KeyedDraws, type TeacherRoute } from "./teacherRouting";

export interface TeacherTargetsOptions {
  teacher: HeadSource & { fingerprint: string };
  sequences: TokenSequences;
  runtime: RuntimeOptions;
  /** Folder that keeps the targets, so that the teacher runs once, not once an epoch. */
  directory: string;
  /** The student's expert axis, where its router logits are matched: the same pass then keeps the teacher's. */
  routerLogits?: LogitMapping | null;
  /** Absent: the teacher's own routing. */
  route?: TeacherRoute;
  /** Number of the first sequence in the text that draws are keyed by; default 0. */
  firstSequence?: number;
  /** Makes hidden states from a sequence on elsewhere, where no router logits are matched. */
  elsewhere?: (from: number, write: (firstSequence: number, rows: Float32Array) => Promise<void>) => Promise<void>;
  signal?: AbortSignal | undefined;
  report?: ReportProgress;
  stage: string;
}

/**
 * The teacher's final normalised hidden states, f32 [tokens, hidden]: with the frozen head they give its exact
 * distribution over the vocabulary at 1/100 of the space of logits. Kept in a file, computed group by group of
 * sequences; a killed pass continues with the next group.
 */
export class TeacherTargets {
  /** That the teacher took, in whichever process and run; 0 where another process made them. */
  seconds = 0;

  private constructor(
    readonly file: string,
    readonly width: number,
    readonly sequenceLength: number,
    readonly routerLogits: RouterLogitTargets | null,
  ) {}

  /** Targets that another process has made, without router logits. */
  static of(file: string, width: number, sequenceLength: number): TeacherTargets {
    return new TeacherTargets(file, width, sequenceLength, null);
  }

  static async prepare(options: TeacherTargetsOptions): Promise<TeacherTargets> {
    const { teacher, sequences, directory } = options;
    const width = teacher.description.hiddenSize;
    const mapping = options.routerLogits ?? null;
    const key = targetsKey(options);
    await mkdir(directory, { recursive: true });
    const file = path.join(directory, `teacher-${mapping === null ? "" : "routing-"}targets-${key}.f32`);
    const progressFile = `${file}.json`;
    const { sequenceLength } = sequences;
    const routerLogits = mapping && new RouterLogitTargets(`${file}.router-logits`, sequenceLength, mapping);
    const targets = new TeacherTargets(file, width, sequenceLength, routerLogits);
    const known = readDone(progressFile, [
      { file, bytes: sequenceLength * width * 4 },
      ...(routerLogits === null ? [] : [{ file: routerLogits.file, bytes: routerLogits.sequenceBytes }]),
    ]);
    targets.seconds = known.seconds;
    if (known.sequences < sequences.numSequences) {
      const started = performance.now();
      const compute = options.elsewhere && mapping === null ? takeTargets : computeTargets;
      await compute(options, targets, known.sequences, async (finished) => {
        targets.seconds = known.seconds + (performance.now() - started) / 1e3;
        await writeFileAtomically(progressFile, JSON.stringify({ sequences: finished, seconds: targets.seconds }));
      });
    }
    return targets;
  }

  /** Hidden states of the given sequences, in that order. */
  async read(numbers: ArrayLike<number>): Promise<HiddenStates> {
    const { sequenceLength, width } = this;
    const result = new MemoryHiddenStates(numbers.length * sequenceLength, width);
    const handle = await open(this.file, "r");
    try {
      const rows = new Float32Array(sequenceLength * width);
      for (let i = 0; i < numbers.length; i++) {
        await readInto(handle, this.file, numbers[i]! * rows.byteLength, bytesOf(rows));
        result.write(i * sequenceLength, rows);
      }
    } finally {
      await handle.close();
    }
    return result;
  }

  /** All sequences' hidden states, read from the file as they are asked for. The caller closes them. */
  all(numSequences: number): HiddenStates {
    return new StoredHiddenStates(this.file, numSequences * this.sequenceLength, this.width);
  }

  async remove(): Promise<void> {
    await rm(this.file, { force: true });
    await rm(`${this.file}.json`, { force: true });
    if (this.routerLogits !== null) await rm(this.routerLogits.file, { force: true });
  }
}

/** Targets that others make, written as they come. */
async function takeTargets(
  { sequences, elsewhere, report, stage }: TeacherTargetsOptions,
  { file, width }: TeacherTargets,
  from: number,
  finished: (sequences: number) => Promise<void>,
): Promise<void> {
  const { sequenceLength, numSequences } = sequences;
  const handle = await open(file, from === 0 ? "w" : "r+");
  try {
    await elsewhere!(from, async (first, rows) => {
      try {
        await writeAll(handle, bytesOf(rows), first * sequenceLength * width * 4);
        await handle.sync();
      } catch (error) {
        throw writeError(error, file);
      }
      const done = first + rows.length / (sequenceLength * width);
      await finished(done);
      const tokens = { done: done * sequenceLength, total: numSequences * sequenceLength };
      report?.({ stage, message: "Running the teacher", ...tokens, unit: "tokens" });
    });
  } finally {
    await handle.close();
  }
}

async function computeTargets(
  {
    teacher: whole,
    sequences,
    runtime,
    directory,
    signal,
    report,
    stage,
    route,
    firstSequence = 0,
  }: TeacherTargetsOptions,
  targets: TeacherTargets,
  from: number,
  finished: (sequences: number) => Promise<void>,
): Promise<void> {
  const { sequenceLength, numSequences } = sequences;
  const teacher = { ...whole, description: route?.description ?? whole.description };
  const draws = route?.draw ? new KeyedDraws(route.draw, sequenceLength) : null;
  const executor = await ModelExecutor.open({
    ...teacher,
    sequenceLength,
    runtime,
    scratchDirectory: directory,
    direction: "forward",
    ...(draws === null ? {} : { sampler: draws.sampler }),
  });
  const head = new VocabularyHead(teacher, executor.sessions, executor.plan.headPositions);
  const handle = await open(targets.file, from === 0 ? "w" : "r+");
  const observer = targets.routerLogits?.writer(from === 0);
  try {
    const perGroup = groupSize(executor, sequenceLength, targets.width);
    let tokens = from * sequenceLength;
    const onChunk = (count: number) => {
      tokens += count / teacher.description.layers.length;
      const total = numSequences * sequenceLength;
      report?.({ stage, message: "Running the teacher", done: Math.round(tokens), total, unit: "tokens" });
    };
    for (let first = from; first < numSequences; first += perGroup) {
      const group = sliceSequences(sequences, first, Math.min(numSequences, first + perGroup));
      if (observer) observer.firstSequence = first;
      if (draws) draws.firstSequence = firstSequence + first;
      using hidden = await executor.forward(tokenBatch(group), { signal, onChunk, ...(observer ? { observer } : {}) });
      await head.normalise(hidden, signal);
      try {
        const rows = hidden.read(0, hidden.numTokens);
        await writeAll(handle, bytesOf(rows), first * sequenceLength * targets.width * 4);
        await handle.sync();
        observer?.sync();
      } catch (error) {
        throw writeError(error, targets.file);
      }
      await finished(first + group.numSequences);
    }
  } finally {
    await handle.close();
    observer?.close();
    await executor.close();
  }
}

/** Sequences a pass: as many as keep hidden states within their share of the budget, in whole chunks. */
function groupSize({ plan }: ModelExecutor, sequenceLength: number, width: number): number {
  const fitting = Math.floor(plan.hiddenStateBytes / 2 / (sequenceLength * width * 4));
  return Math.max(1, Math.floor(fitting / plan.chunkSequences)) * plan.chunkSequences;
}

function targetsKey({
  teacher,
  sequences,
  routerLogits,
  route,
  runtime: { threads, provider },
}: TeacherTargetsOptions): string {
  const mapping = routerLogits ? [...routerLogits] : null;
  const routing = route?.key ? { routing: route.key } : {};
  const tokens = tokensRead(sequences);
  const decides = { teacher: teacher.fingerprint, tokens, mapping, threads, provider, ...routing };
  return contentKey(decides).slice(0, 16);
}

interface TargetsDone {
  sequences: number;
  seconds: number;
}

/** Sequences whose targets are in the files, and the time they took; 0 where one is missing or shorter than it should be. */
function readDone(progressFile: string, files: readonly { file: string; bytes: number }[]): TargetsDone {
  const nothing = { sequences: 0, seconds: 0 };
  try {
    const { sequences, seconds } = JSON.parse(readFileSync(progressFile, "utf8")) as Record<string, unknown>;
    const count = Number.isInteger(sequences) ? (sequences as number) : 0;
    const isThere = files.every(({ file, bytes }) => statSync(file).size >= count * bytes);
    return isThere ? { sequences: count, seconds: typeof seconds === "number" ? seconds : 0 } : nothing;
  } catch {
    return nothing;
  }
}
