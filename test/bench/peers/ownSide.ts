import { calibrateOptions } from "../../../src/protocol/calibrateOptions";
import { sliceSequences, type TokenSequences } from "../../../src/engine/data/sequences";
import { clipGlobalNorm, updateAdamW } from "../../../src/engine/distillation/adamW";
import { BatchUpdates } from "../../../src/engine/distillation/sideBySide/batchUpdates";
import { initialState } from "../../../src/engine/distillation/trainState";
import { nextTokens, tokenBatch } from "../../../src/engine/execution/batches";
import { MemoryHiddenStates, type HiddenStates } from "../../../src/engine/execution/hiddenStates";
import { ModelExecutor } from "../../../src/engine/execution/modelExecutor";
import { Tape } from "../../../src/engine/execution/tape";
import { headsAreEqual, VocabularyHead } from "../../../src/engine/execution/vocabularyHead";
import { RoutingStatistics } from "../../../src/engine/routing/collect";
import type { Way } from "../../../src/engine/runtime/sideBySide/fasterWay";
import type { RuntimeOptions } from "../../../src/engine/runtime/session";
import type { Pair } from "./pairs";

const options = calibrateOptions.parse({ learningRate: 1e-3, keepStep: "last" });

/** Reroute's part: what its stages run, on executors that stay open as a run's do. */
export class OwnSide {
  private constructor(
    readonly pair: Pair,
    readonly teacher: ModelExecutor,
    readonly student: ModelExecutor,
    readonly scorer: ModelExecutor,
    readonly sharedHead: boolean,
    readonly way: { way?: Way },
  ) {}

  /** @param way always this one, instead of the faster one */
  static async open(pair: Pair, runtime: RuntimeOptions, scratchDirectory: string, way?: Way): Promise<OwnSide> {
    const chosen = way === undefined ? {} : { way };
    const common = { sequenceLength: pair.sequences.sequenceLength, runtime, scratchDirectory, ...chosen };
    const open = (model: Pair["teacher"], direction: "forward" | "backward") =>
      ModelExecutor.open({ ...model, ...common, direction });
    return new OwnSide(
      pair,
      await open(pair.teacher, "forward"),
      await open(pair.student, "backward"),
      await open(pair.student, "forward"),
      await headsAreEqual(pair.student, pair.teacher),
      chosen,
    );
  }

  readonly #state = { training: null as ReturnType<typeof initialState> | null, updates: null as BatchUpdates | null };

  /** Updates of the routers, the teacher's pass over their sequences first, as a calibration has it. @returns the last loss */
  async routerKd(first: number, updates: number, batch: number): Promise<number> {
    const { pair, student, teacher, sharedHead } = this;
    const of = (from: number, count: number) => sliceSequences(pair.sequences, from, from + count);
    using targets = await this.#targets(of(first, updates * batch));
    const head = this.#head(student, sharedHead);
    const updating = (this.#state.updates ??= new BatchUpdates({
      ...{ executor: student, head, teacher: pair.teacher, options, ...this.way },
    }));
    const state = (this.#state.training ??= initialState("", student.parameters));
    const { sequenceLength } = pair.sequences;
    const width = teacher.options.description.hiddenSize;
    let last = 0;
    for (let update = 0; update < updates; update++) {
      const from = update * batch * sequenceLength;
      const read = () => {
        const rows = new MemoryHiddenStates(batch * sequenceLength, width);
        rows.write(0, targets.read(from, from + batch * sequenceLength));
        return Promise.resolve(rows);
      };
      const numbers = Array.from({ length: batch }, (_, i) => first + update * batch + i);
      const sequences = of(numbers[0]!, batch);
      const taught = { routerLogits: null, draws: [{ read }] };
      const given = { sequences, numbers };
      const { loss, gradients } = await updating.lossAndGradients(given, taught, null, undefined);
      clipGlobalNorm(gradients, options.clip);
      updateAdamW(state.optimiser, state.parameters, gradients, 1e-3, 0);
      last = loss;
    }
    return last;
  }

  /** @returns sum over layers and experts of routing weight times norm of the output, a token */
  async profile(first: number, count: number): Promise<number> {
    const sequences = sliceSequences(this.pair.sequences, first, first + count);
    const observer = new RoutingStatistics({ checkpoint: "", fingerprint: "", sequences, renormalises: true });
    (await this.teacher.forward(tokenBatch(sequences), { observer, collectOutputs: true })).close();
    const sums = observer.result().layers.map(({ weightedNormSum }) => weightedNormSum.reduce((a, b) => a + b, 0));
    return sums.reduce((a, b) => a + b, 0) / sequences.ids.length;
  }

  /** @returns mean KL to the teacher */
  async evaluate(first: number, count: number): Promise<number> {
    const sequences = sliceSequences(this.pair.sequences, first, first + count);
    using targets = await this.#targets(sequences);
    // As the updates so far have left the student.
    for (const [key, values] of this.student.parameters) this.scorer.parameters.set(key, values);
    using hidden = await this.scorer.forward(tokenBatch(sequences));
    const { labels, isTarget } = nextTokens(sequences);
    const { kl } = await this.#head(this.scorer, this.sharedHead).compare(hidden, targets, labels);
    return kl.reduce((sum, value, i) => sum + isTarget[i]! * value, 0) / isTarget.reduce((a, b) => a + b, 0);
  }

  /** @returns mean square of the last layer's output */
  async forward(count: number): Promise<number> {
    using hidden = await this.student.forward(tokenBatch(sliceSequences(this.pair.sequences, 0, count)));
    const all = hidden.read(0, hidden.numTokens);
    return all.reduce((sum, value) => sum + value * value, 0) / all.length;
  }

  /** @returns norm of the routers' gradients for a gradient of ones in the last layer's output */
  async gradients(count: number): Promise<number> {
    const tape = new Tape();
    using hidden = await this.student.forward(tokenBatch(sliceSequences(this.pair.sequences, 0, count)), { tape });
    hidden.write(0, new Float32Array(hidden.numTokens * hidden.width).fill(1));
    const gradients = await this.student.backward(tape, hidden);
    tape.close();
    return clipGlobalNorm(gradients, Infinity);
  }

  async close(): Promise<void> {
    await this.#state.updates?.close();
    for (const executor of [this.teacher, this.student, this.scorer]) await executor.close();
  }

  async #targets(sequences: TokenSequences): Promise<HiddenStates> {
    const hidden = await this.teacher.forward(tokenBatch(sequences));
    await new VocabularyHead(this.pair.teacher, this.teacher.sessions, this.teacher.plan.headPositions).normalise(
      hidden,
    );
    return hidden;
  }

  #head(executor: ModelExecutor, sharedHead: boolean): VocabularyHead {
    const teacher = { source: this.pair.teacher, sharedHead };
    return new VocabularyHead(
      this.pair.student,
      executor.sessions,
      executor.plan.headPositions,
      teacher,
      executor.trained,
    );
  }
}
