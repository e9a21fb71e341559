import { createHash } from "node:crypto";
import { throwIfCancelled } from "../../protocol/errors";
import { readTensorBytes } from "../checkpoint/read";
import { weightKey } from "../graph/blocks/weights";
import type { Graph } from "../graph/graph";
import type { WeightView } from "../model/description";
import {
  comparisonGraph,
  finalNormGraph,
  headWeightsGraph,
  logitsGraph,
  lossGraph,
  nllGraph,
  overlapGraph,
  type HeadSource,
  type LossOptions,
} from "./headGraphs";
import type { HiddenStates } from "./hiddenStates";
import { addGradients, type Parameters } from "./parameters";
import type { SessionCache } from "./sessionCache";
import { float32, floats } from "./tensors";
import { headViews, viewsIn } from "./weightViews";
import { BlockSession, type Tensor } from "../runtime/session";

/**
 * Final norm, vocabulary head and losses, a bounded number of positions at a time: a vocabulary of 150,000 makes logits
 * of 0.6 MB a position.
 */
export class VocabularyHead {
  constructor(
    readonly student: HeadSource,
    readonly sessions: SessionCache,
    readonly positionsPerRun: number,
    /** With the values of its head where that trains elsewhere. */
    readonly teacher: { source: HeadSource; sharedHead: boolean; trained?: Parameters } | null = null,
    /** Weights that train, where the student names some; an executor's own. */
    readonly trained: Parameters | null = null,
  ) {}

  /** Replaces final hidden states, [tokens, hidden], by those after the norm: what teacher targets are kept as. */
  async normalise(hidden: HiddenStates, signal?: AbortSignal): Promise<void> {
    await this.#run("final norm", finalNormGraph, hidden, {}, signal, (from, outputs) =>
      hidden.write(from, floats(outputs["hidden"]!)),
    );
  }

  /** Logits of every position, [tokens, vocabulary]: for probes of a few positions. */
  async logits(hidden: HiddenStates): Promise<Float32Array> {
    const { vocabSize } = this.student.description;
    const result = new Float32Array(hidden.numTokens * vocabSize);
    await this.#run("logits", logitsGraph, hidden, {}, undefined, (from, outputs) =>
      result.set(floats(outputs["logits"]!), from * vocabSize),
    );
    return result;
  }

  /** -log p(label) of each row. */
  async nll(hidden: HiddenStates, labels: Int32Array, signal?: AbortSignal): Promise<Float32Array> {
    const nll = new Float32Array(hidden.numTokens);
    const rows = { labels: (from: number, to: number) => labelRows(labels, from, to) };
    await this.#run("nll", nllGraph, hidden, rows, signal, (from, outputs) => nll.set(floats(outputs["nll"]!), from));
    return nll;
  }

  /** KL to the teacher, nll and top-1 agreement of each row. */
  async compare(hidden: HiddenStates, teacherHidden: HiddenStates, labels: Int32Array, signal?: AbortSignal) {
    const { source, sharedHead } = this.#teacher();
    const result = {
      kl: new Float32Array(hidden.numTokens),
      nll: new Float32Array(hidden.numTokens),
      agreement: new Float32Array(hidden.numTokens),
    };
    const rows = {
      labels: (from: number, to: number) => labelRows(labels, from, to),
      teacherHidden: (from: number, to: number) =>
        float32(teacherHidden.read(from, to), [to - from, teacherHidden.width]),
    };
    await this.#run(
      "compare",
      (student) => comparisonGraph(student, source, sharedHead),
      hidden,
      rows,
      signal,
      (from, outputs) => {
        result.kl.set(floats(outputs["kl"]!), from);
        result.nll.set(floats(outputs["nll"]!), from);
        result.agreement.set(floats(outputs["agreement"]!), from);
      },
    );
    return result;
  }

  /** Overlap with the teacher's distribution of each row, sum_v min(p, q), of final and normalised hidden states. */
  async overlap(hidden: HiddenStates, teacherHidden: HiddenStates, signal?: AbortSignal): Promise<Float32Array> {
    const { source, sharedHead } = this.#teacher();
    const overlap = new Float32Array(hidden.numTokens);
    const rows = {
      teacherHidden: (from: number, to: number) =>
        float32(teacherHidden.read(from, to), [to - from, teacherHidden.width]),
    };
    await this.#run(
      "overlap",
      (student) => overlapGraph(student, source, sharedHead),
      hidden,
      rows,
      signal,
      (from, outputs) => overlap.set(floats(outputs["overlap"]!), from),
    );
    return overlap;
  }

  /**
   * Row losses, and the gradient of sum_t rowWeights_t * loss_t with respect to the final hidden states, which replaces
   * `hidden`; gradients of final norm and head are added to `gradients` where they train. Of several draws of the teacher's
   * hidden states, the mean over them.
   */
  async lossAndGradient(
    hidden: HiddenStates,
    targets: { teacherHidden: HiddenStates | readonly HiddenStates[] | null; labels: Int32Array },
    rowWeights: Float32Array,
    options: LossOptions,
    signal?: AbortSignal,
    gradients: ReadonlyMap<string, Float32Array> = new Map(),
  ): Promise<Float32Array> {
    const teacher = options.loss !== "lm" ? this.#teacher() : { source: this.student, sharedHead: true };
    const rowLoss = new Float32Array(hidden.numTokens);
    const { teacherHidden, labels } = targets;
    const draws: readonly (HiddenStates | null)[] =
      teacherHidden === null || "read" in teacherHidden ? [teacherHidden] : teacherHidden;
    const weights = draws.length === 1 ? rowWeights : rowWeights.map((weight) => weight / draws.length);
    const key = `loss ${JSON.stringify(options)}`;
    const graph = (student: HeadSource) => lossGraph(student, teacher.source, teacher.sharedHead, options);
    const total = draws.length === 1 ? null : new Float32Array(hidden.numTokens * hidden.width);
    for (const [draw, states] of draws.entries()) {
      const rows: Record<string, (from: number, to: number) => Tensor> = {
        ...this.#headOfTeacher(),
        rowWeights: (from, to) => float32(weights.subarray(from, to), [to - from, 1]),
        labels: (from, to) => labelRows(labels, from, to),
      };
      if (states !== null)
        rows["teacherHidden"] = (from, to) => float32(states.read(from, to), [to - from, states.width]);
      const isLast = draw === draws.length - 1;
      await this.#run(key, graph, hidden, rows, signal, (from, outputs) => {
        const part = floats(outputs["rowLoss"]!);
        for (let i = 0; i < part.length; i++) rowLoss[from + i]! += part[i]! / draws.length;
        const dx = floats(outputs["dx"]!);
        if (total === null) hidden.write(from, dx);
        else {
          const sum = total.subarray(from * hidden.width, from * hidden.width + dx.length);
          for (let i = 0; i < dx.length; i++) sum[i]! += dx[i]!;
          if (isLast) hidden.write(from, sum);
        }
        addGradients(outputs, gradients);
      });
    }
    return rowLoss;
  }

  /** Values of the teacher's head where it trains elsewhere. */
  #headOfTeacher(): Record<string, () => Tensor> {
    if (this.teacher?.trained === undefined || this.teacher.sharedHead) return {};
    const { head } = this.teacher.source.description;
    const feeds = this.teacher.trained.feeds("head alone", () => viewsIn([head.weight, head.bias]));
    return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [`teacher ${name}`, () => tensor]));
  }

  #teacher() {
    if (this.teacher === null) throw new Error("this head has no teacher");
    return this.teacher;
  }

  /** No run has a single position where it can be helped: onnxruntime has a product of its own for one row (GroupRows). */
  #endOfRun(from: number, numTokens: number): number {
    const to = Math.min(numTokens, from + Math.max(2, this.positionsPerRun));
    return numTokens - to === 1 ? numTokens : to;
  }

  async #run(
    key: string,
    graph: (student: HeadSource) => Graph,
    hidden: HiddenStates,
    rows: Record<string, (from: number, to: number) => Tensor>,
    signal: AbortSignal | undefined,
    take: (from: number, outputs: Record<string, Tensor>) => void,
  ): Promise<void> {
    const { session, given, close } = await this.#open(key, graph, hidden.numTokens);
    const weights = this.trained?.feeds("head", () => headViews(this.student.description)) ?? {};
    try {
      for (let from = 0, to: number; from < hidden.numTokens; from = to) {
        throwIfCancelled(signal);
        to = this.#endOfRun(from, hidden.numTokens);
        const feeds = Object.fromEntries(Object.entries(rows).map(([name, read]) => [name, read(from, to)]));
        const x = float32(hidden.read(from, to), [to - from, hidden.width]);
        take(from, await session.run({ x, ...feeds, ...weights, ...given }));
      }
    } finally {
      await close();
    }
  }

  /**
   * Where several runs would each decode the weights and ask for pages for their logits, a session for this pass alone: the
   * weights are decoded once and given, and its temporaries stay until it closes.
   */
  async #open(key: string, graph: (student: HeadSource) => Graph, positions: number) {
    const { head } = this.student.description;
    const name = weightKey(head.weight);
    const { limits, runtime } = this.sessions;
    const isOnce = positions <= this.positionsPerRun || limits.keepFloat32Weights || !isHalf(head.weight);
    if (isOnce || key === "final norm" || this.student.trainable?.has(name)) {
      const session = await this.sessions.get(`head ${key}`, () => graph(this.student));
      return { session, given: {}, close: async () => {} };
    }
    const decoder = await this.sessions.get("head weights", () => headWeightsGraph(this.student));
    const { weights } = await decoder.run({});
    const options = { runtime, keepFloat32Weights: false, keepTemporaries: true };
    const session = await BlockSession.create(graph({ ...this.student, given: new Set([name]) }), options);
    return { session, given: { [`weight:${name}`]: weights! }, close: () => session.release() };
  }
}

/** Whether a matrix is stored in half precision, without scales. */
function isHalf({ dtype, quantisation }: WeightView): boolean {
  return (dtype === "BF16" || dtype === "F16") && (quantisation ?? null) === null;
}

/** Whether two models turn final hidden states into logits alike: same scale, same bytes of head and bias. */
export async function headsAreEqual(a: HeadSource, b: HeadSource): Promise<boolean> {
  const [headA, headB] = [a.description.head, b.description.head];
  if (headA.scale !== headB.scale || headA.softcap !== headB.softcap) return false;
  if ((headA.bias === null) !== (headB.bias === null)) return false;
  const digests = await Promise.all([
    digest(a, headA.weight),
    digest(b, headB.weight),
    digest(a, headA.bias),
    digest(b, headB.bias),
  ]);
  return digests[0] === digests[1] && digests[2] === digests[3];
}

async function digest({ checkpoint }: HeadSource, view: WeightView | null): Promise<string> {
  const hash = createHash("sha256");
  if (view === null) return "";
  const entry = checkpoint.tensors.get(view.tensor)!;
  const step = 64 * 2 ** 20;
  hash.update(`${entry.dtype} ${entry.shape.join(",")}`);
  for (let offset = 0; offset < entry.byteLength; offset += step) {
    hash.update(
      await readTensorBytes(entry, { byteOffset: offset, byteLength: Math.min(step, entry.byteLength - offset) }),
    );
  }
  return hash.digest("hex");
}

function labelRows(labels: Int32Array, from: number, to: number): Tensor {
  return { type: "int32", shape: [to - from, 1], data: labels.subarray(from, to) };
}
