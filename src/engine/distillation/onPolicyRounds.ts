import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import type { ReportProgress } from "../../protocol/progress";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";
import { contentKey } from "../checkpoint/contentKey";
import { readSafetensorsFile, writeSafetensorsFile, type MemoryTensor } from "../checkpoint/safetensorsFile";
import { sliceSequences, type TokenSequences } from "../data/sequences";
import { pickSequences } from "../execution/batches";
import { studentRound, type RoundWriter, type StudentRound } from "./studentRound";
import type { TrainingTargets } from "./targets";
import type { TeacherTargets } from "./teacherTargets";

export interface OnPolicyRoundsOptions {
  onPolicy: NonNullable<CalibrateOptions["onPolicy"]>;
  training: TokenSequences;
  /** Numbers of an update's sequences among the training ones. */
  numbersOf: (update: number) => Int32Array;
  totalUpdates: number;
  /** Responses of the student as it is. */
  write: RoundWriter;
  /** Runs the teacher over a round, once for each draw; null where its routers train and make targets of their own. */
  teach: ((sequences: TokenSequences, round: number) => Promise<TeacherTargets[]>) | null;
  /** What decides the run's result. */
  inputHash: string;
  directory: string;
  report?: ReportProgress | undefined;
}

/**
 * Training on what the student itself writes (GKD, arXiv 2306.13649), in rounds: at the start of each, the student continues a
 * share of the round's sequences, the teacher runs once over all of them, and the round's updates learn from that. One update
 * a round is the loop of the papers; more of them read the teacher less often, for sequences of a student some updates old.
 *
 * A round's sequences are in a file before its first update, and sampling is keyed, so that a run that was killed amid a round
 * goes on with the same ones.
 */
export class OnPolicyRounds {
  #round = -1;
  #sequences: TokenSequences | null = null;
  #targets: TeacherTargets[] = [];

  constructor(readonly options: OnPolicyRoundsOptions) {}

  /** The sequences that an update trains on. */
  async batchOf(update: number): Promise<TokenSequences> {
    const sequences = await this.#open(update);
    const [from, to] = this.#placeOf(update);
    return sliceSequences(sequences, from, to);
  }

  /** What the teacher gives for them. */
  async targetsOf(update: number): Promise<TrainingTargets | null> {
    const sequences = await this.#open(update);
    const { teach } = this.options;
    if (teach === null) return null;
    if (this.#targets.length === 0) this.#targets = await teach(sequences, this.#round);
    const [from, to] = this.#placeOf(update);
    const places = Int32Array.from({ length: to - from }, (_, i) => from + i);
    return { routerLogits: null, draws: this.#targets.map((draw) => ({ read: () => draw.read(places) })) };
  }

  /** Takes away the files of rounds that a run which goes on from `step` updates needs no more. */
  async forget(step: number): Promise<void> {
    const first = Math.floor(step / this.options.onPolicy.roundUpdates) - 1;
    for (const name of readdirSync(this.options.directory)) {
      const round = roundFilePattern.exec(name)?.[1];
      if (round !== undefined && Number(round) < first)
        await rm(path.join(this.options.directory, name), { force: true });
    }
  }

  async #open(update: number): Promise<TokenSequences> {
    const round = Math.floor(update / this.options.onPolicy.roundUpdates);
    if (this.#sequences !== null && round === this.#round) return this.#sequences;
    for (const targets of this.#targets) await targets.remove();
    this.#targets = [];
    const before = round === 0 ? null : await this.#readOrNull(round - 1);
    this.#sequences = ((await this.#readOrNull(round)) ?? (await this.#write(round, before))).sequences;
    this.#round = round;
    return this.#sequences;
  }

  async #write(round: number, before: StudentRound | null): Promise<StudentRound> {
    const { onPolicy, write, report } = this.options;
    report?.({
      ...{ stage: "calibrate", message: `The student writes round ${round + 1}`, unit: "steps" },
      ...{ done: round, total: Math.ceil(this.options.totalUpdates / onPolicy.roundUpdates) },
    });
    const found = await studentRound({
      ...{ onPolicy, before, write, text: this.#textOf(round) },
      firstNumber: round * onPolicy.roundUpdates * this.options.numbersOf(0).length,
    });
    const { ids, lengths, promptLengths, numSequences, sequenceLength } = found.sequences;
    const each = (data: Int32Array): MemoryTensor => ({ dtype: "I32", shape: [numSequences], data });
    const tensors: [string, MemoryTensor][] = [
      ["ids", { dtype: "I32", shape: [numSequences, sequenceLength], data: ids }],
      ["lengths", each(lengths)],
      ["promptLengths", each(promptLengths!)],
      ["written", each(Int32Array.from(found.written))],
    ];
    await writeSafetensorsFile(this.#file(round), new Map(tensors));
    return found;
  }

  /** The round's sequences, where its file is there. */
  async #readOrNull(round: number): Promise<StudentRound | null> {
    const file = this.#file(round);
    if (!existsSync(file)) return null;
    const { tensors } = await readSafetensorsFile(file);
    const numbers = (name: string) => new Int32Array(new Uint8Array(tensors.get(name)!.data).buffer);
    const found = { ids: numbers("ids"), lengths: numbers("lengths"), promptLengths: numbers("promptLengths") };
    return { sequences: { ...this.#textOf(round), ...found }, written: Uint8Array.from(numbers("written")) };
  }

  /** The training sequences of a round's updates, one update after another. */
  #textOf(round: number): TokenSequences {
    const numbers = this.#updatesOf(round).flatMap((update) => [...this.options.numbersOf(update)]);
    return pickSequences(this.options.training, numbers);
  }

  #updatesOf(round: number): number[] {
    const { totalUpdates, onPolicy } = this.options;
    const first = round * onPolicy.roundUpdates;
    return Array.from({ length: Math.min(onPolicy.roundUpdates, totalUpdates - first) }, (_, i) => first + i);
  }

  /** Where an update's sequences lie in its round. */
  #placeOf(update: number): [from: number, to: number] {
    const { numbersOf } = this.options;
    const before = this.#updatesOf(this.#round).filter((one) => one < update);
    const from = before.reduce((sum, one) => sum + numbersOf(one).length, 0);
    return [from, from + numbersOf(update).length];
  }

  #file(round: number): string {
    const key = contentKey({ inputHash: this.options.inputHash, round }).slice(0, 16);
    return path.join(this.options.directory, `student-round-${round}-${key}.safetensors`);
  }
}

/** Sequences that a student wrote for a round. */
export const roundFilePattern = /^student-round-(\d+)-[0-9a-f]{16}\.safetensors$/;
