import { routerProbabilities } from "../distillation/routerKl";
import type { ActiveExpertsRow, ExpertProbe, GateMass } from "../../protocol/distillation";
import { throwIfCancelled } from "../../protocol/errors";
import type { ReportProgress } from "../../protocol/progress";
import type { TokenSequences } from "../data/sequences";
import { nextTokens, tokenBatch } from "../execution/batches";
import type { HeadSource } from "../execution/headGraphs";
import type { HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import { usualActiveExperts, withActiveExperts } from "../model/activeExperts";
import { moeLayers } from "../model/moeLayers";
import type { ModelDescription, MoeDescription } from "../model/description";
import type { RuntimeOptions } from "../runtime/session";
import { perSequence } from "./aggregate";
import { estimateMean } from "./bootstrap";

export interface ExpertProbeOptions {
  teacher: HeadSource;
  student: HeadSource | null;
  sequences: TokenSequences;
  /** Numbers of active experts; empty: the usual ones. */
  active: readonly number[];
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal;
  report?: ReportProgress;
}

/**
 * What a teacher, and a student of it, are worth by the teacher's number of active experts: one pass for each number over the
 * same text, and one under its own routing, which gives the mass of activated experts, too (figures 1 and 2 of Every Expert
 * Matters, arXiv 2502.12947).
 *
 * @throws RerouteError what withActiveExperts raises, before anything runs; `cancelled`
 */
export async function probeExperts(options: ExpertProbeOptions): Promise<ExpertProbe> {
  const { teacher, student, sequences, signal, report } = options;
  const active = options.active.length > 0 ? options.active : usualActiveExperts(teacher.description);
  const descriptions = active.map((n) => withActiveExperts(teacher.description, n));
  const { labels, isTarget } = nextTokens(sequences);
  const estimate = (rows: Float32Array) => estimateMean(perSequence({ rows, isTarget }, sequences));
  const step = (done: number, message: string) => {
    throwIfCancelled(signal);
    report?.({ stage: "evaluate", message, done, total: active.length + 2, unit: "steps" });
  };
  step(0, "The teacher's own routing");
  const mass = new MassObserver(teacher.description, tokenBatch(sequences).valid);
  await using own = await Pass.run(teacher, options, mass);
  await own.head(teacher, true).normalise(own.hidden, signal);
  step(1, "The student");
  await using learner = student && (await Pass.run(student, options));
  const studentHead = learner && learner.head(teacher, await headsAreEqual(student, teacher));
  let studentLoss: ExpertProbe["studentLoss"] = null;
  const rows: ActiveExpertsRow[] = [];
  for (const [i, description] of descriptions.entries()) {
    step(2 + i, `${active[i]!} active experts`);
    await using pass = await Pass.run({ ...teacher, description }, options);
    const head = pass.head(teacher, true);
    const toOwn = await head.compare(pass.hidden, own.hidden, labels, signal);
    let klOfStudent: ActiveExpertsRow["klOfStudent"] = null;
    if (studentHead && learner) {
      await head.normalise(pass.hidden, signal);
      const { kl, nll } = await studentHead.compare(learner.hidden, pass.hidden, labels, signal);
      klOfStudent = estimate(kl);
      studentLoss ??= estimate(nll);
    }
    rows.push({ active: active[i]!, loss: estimate(toOwn.nll), klToOwn: estimate(toOwn.kl), klOfStudent });
  }
  return {
    sequences: sequences.numSequences,
    tokens: isTarget.reduce((sum, one) => sum + one, 0),
    ownActive: moeLayers(teacher.description)[0]!.moe.numExpertsPerToken,
    rows,
    gateMass: mass.result(),
    studentLoss,
  };
}

/** One model's final hidden states of all sequences, before its norm, and what reads them. */
class Pass implements AsyncDisposable {
  private constructor(
    readonly source: HeadSource,
    readonly executor: ModelExecutor,
    readonly hidden: HiddenStates,
  ) {}

  static async run(
    source: HeadSource,
    { sequences, runtime, scratchDirectory, signal }: ExpertProbeOptions,
    observer?: RoutingObserver,
  ): Promise<Pass> {
    const { sequenceLength } = sequences;
    const open = { ...source, sequenceLength, runtime, scratchDirectory, direction: "forward" as const };
    const executor = await ModelExecutor.open(open);
    try {
      const observed = observer === undefined ? {} : { observer };
      return new Pass(source, executor, await executor.forward(tokenBatch(sequences), { signal, ...observed }));
    } catch (error) {
      await executor.close();
      throw error;
    }
  }

  head(teacher: HeadSource, sharedHead: boolean): VocabularyHead {
    const { sessions, plan } = this.executor;
    return new VocabularyHead(this.source, sessions, plan.headPositions, { source: teacher, sharedHead });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hidden.close();
    await this.executor.close();
  }
}

/** Adds up router probabilities, token by token. */
class MassObserver implements RoutingObserver {
  readonly #routing: ReadonlyMap<number, MoeDescription["routing"]>;
  readonly #sums = new Map<number, { tokens: number; activated: number; sorted: Float64Array }>();

  constructor(
    description: ModelDescription,
    readonly valid: Uint8Array | undefined,
  ) {
    this.#routing = new Map(moeLayers(description).map(({ layer, moe }) => [layer, moe.routing]));
  }

  observe(seen: MoeObservation): void {
    const {
      layer,
      firstToken,
      numTokens,
      numRouterRows: width,
      routerLogits,
      numExpertsPerToken: k,
      selectedIds,
    } = seen;
    const sum = this.#sums.get(layer) ?? { tokens: 0, activated: 0, sorted: new Float64Array(width) };
    this.#sums.set(layer, sum);
    const p = new Float32Array(width);
    for (let token = 0; token < numTokens; token++) {
      if (this.valid?.[firstToken + token] === 0) continue;
      routerProbabilities(this.#routing.get(layer)!, routerLogits, token * width, p);
      for (let slot = token * k; slot < (token + 1) * k; slot++) sum.activated += p[selectedIds[slot]!]!;
      p.sort().reverse();
      p.forEach((value, e) => (sum.sorted[e]! += value));
      sum.tokens++;
    }
  }

  result(): GateMass[] {
    return [...this.#sums].map(([layer, { tokens, activated, sorted }]) => ({
      ...{ layer, activated: activated / tokens, sorted: [...sorted].map((value) => value / tokens) },
    }));
  }
}

/** Of a budget for all: the teacher's own routing, the number at hand and a student are open at once. */
export function probeBudgetOfEach(memoryBudgetBytes: number, hasStudent: boolean): number {
  return Math.floor(memoryBudgetBytes / (hasStudent ? 3 : 2));
}
