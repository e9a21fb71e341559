import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import type { HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import type { Parameters } from "../execution/parameters";
import { Tape } from "../execution/tape";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import { viewsIn } from "../execution/weightViews";
import { weightKey } from "../graph/blocks/weights";
import type { RuntimeOptions } from "../runtime/session";
import { clipGlobalNorm, initAdamW, updateAdamW } from "./adamW";
import { divergenceOf } from "./divergence";
import { copyParameters, type RouterState } from "./trainState";

export interface StudentAwareOptions {
  /** With as many active experts as teach. */
  teacher: HeadSource;
  /** Whose distribution the routers learn; where its head trains, with its values. */
  student: HeadSource;
  trained: Parameters;
  sequenceLength: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
  /** Of a run that goes on; absent: the teacher's own routers. */
  routers: RouterState | null;
}

/**
 * Student-Aware Router (Every Expert Matters, arXiv 2502.12947): copies of the teacher's routers train by KL(P || Q), P the
 * teacher's distribution with all its active experts and Q the student's, held; the student then learns from what the teacher
 * gives with them. Nothing but the router matrices trains, without noise; the teacher on disk never changes.
 */
export class StudentAwareTeacher {
  readonly state: RouterState;
  readonly #original: ReadonlyMap<string, Float32Array>;

  private constructor(
    readonly executor: ModelExecutor,
    readonly head: VocabularyHead,
    routers: RouterState | null,
  ) {
    this.#original = copyParameters(executor.parameters);
    this.state = routers ?? { parameters: executor.parameters, optimiser: initAdamW(executor.parameters) };
    for (const [key, values] of this.state.parameters) executor.parameters.set(key, values);
  }

  static async open(options: StudentAwareOptions): Promise<StudentAwareTeacher> {
    const { teacher, student, trained, sequenceLength, runtime, scratchDirectory, routers } = options;
    const executor = await ModelExecutor.open({
      ...{ ...teacher, sequenceLength, runtime, scratchDirectory, direction: "backward" },
    });
    const { weight, bias } = student.description.head;
    // A head that trains is no longer the stored one.
    const trains = viewsIn([weight, bias]).some((view) => student.trainable?.has(weightKey(view)));
    const other = { source: student, sharedHead: !trains && (await headsAreEqual(teacher, student)), trained };
    const head = new VocabularyHead(teacher, executor.sessions, executor.plan.headPositions, other);
    return new StudentAwareTeacher(executor, head, routers);
  }

  /**
   * KL(P || Q), nats a target position, and its gradient in every router.
   * @param studentHidden the student's final hidden states behind its norm, [tokens, hidden]
   */
  async lossAndGradients(
    sequences: TokenSequences,
    studentHidden: HiddenStates,
    signal?: AbortSignal,
    isTarget: Uint8Array = nextTokens(sequences).isTarget,
  ): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
    const numTargets = isTarget.reduce((sum, one) => sum + one, 0);
    const rowWeights = Float32Array.from(isTarget, (one) => one / numTargets);
    const tape = new Tape();
    try {
      using hidden = await this.executor.forward(tokenBatch(sequences), { tape, signal });
      const losses = await this.head.lossAndGradient(
        hidden,
        { teacherHidden: studentHidden, labels: new Int32Array(isTarget.length) },
        rowWeights,
        // Reverse, with the teacher as the learner.
        { loss: "kd", temperature: 1, divergence: divergenceOf("reverse", undefined) },
        signal,
      );
      const loss = losses.reduce((sum, value, row) => sum + (isTarget[row] === 0 ? 0 : value * rowWeights[row]!), 0);
      return { loss, gradients: await this.executor.backward(tape, hidden, { signal }) };
    } finally {
      tape.close();
    }
  }

  /** One clipped AdamW step of the routers, without weight decay. @returns the gradients' norm before clipping */
  update(gradients: ReadonlyMap<string, Float32Array>, learningRate: number, clip: number): number {
    const norm = clipGlobalNorm(gradients, clip);
    updateAdamW(this.state.optimiser, this.state.parameters, gradients, learningRate, 0);
    return norm;
  }

  /** What the student learns from: final hidden states behind the norm, with the routers as they are. */
  async targets(sequences: TokenSequences, signal?: AbortSignal): Promise<HiddenStates> {
    const hidden = await this.executor.forward(tokenBatch(sequences), { signal });
    try {
      await this.head.normalise(hidden, signal);
      return hidden;
    } catch (error) {
      hidden.close();
      throw error;
    }
  }

  /** The teacher's own routers, by key. */
  get original(): ReadonlyMap<string, Float32Array> {
    return this.#original;
  }

  close(): Promise<void> {
    return this.executor.close();
  }
}
