import type { ScoredByModel, ScoredRouting } from "../../protocol/scoring";
import { throwIfCancelled } from "../../protocol/errors";
import type { HeadSource } from "../execution/headGraphs";
import type { HiddenStates } from "../execution/hiddenStates";
import { ModelExecutor } from "../execution/modelExecutor";
import type { MoeObservation, RoutingObserver } from "../execution/observer";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import type { RuntimeOptions } from "../runtime/session";

export interface ScoreTextsOptions {
  models: readonly HeadSource[];
  /** Index among the models; null: no KL. */
  teacher: number | null;
  /** Prompt and response in one, and how many tokens are the prompt's. */
  texts: readonly { ids: Int32Array; promptTokens: number }[];
  /** By model: teacher experts of each of its experts, by layer number; null where numbered alike. */
  mappings: readonly (Readonly<Record<string, number[][]>> | null)[];
  runtime: RuntimeOptions;
  scratchDirectory: string;
  signal?: AbortSignal | undefined;
  /** Tokens that went through all layers of a model, of all there are for all models. */
  onTokens?: (done: number, total: number) => void;
}

/**
 * Each model's -ln p, KL to the teacher and routing of every response token, on the same tokens (teacher forcing): one pass a
 * model over all texts, one model open at a time. Row p - 1 predicts token p; routing is that of token p itself.
 *
 * @returns [texts][models]
 * @throws RerouteError `cancelled`, and those of ModelExecutor.open and forward
 */
export async function scoreTexts(options: ScoreTextsOptions): Promise<ScoredByModel[][]> {
  const { models, teacher, texts } = options;
  const result = texts.map(() => new Array<ScoredByModel>(models.length));
  const all = [...models.keys()];
  const order = teacher === null ? all : [teacher, ...all.filter((m) => m !== teacher)];
  let taught: { source: HeadSource; hidden: HiddenStates } | null = null;
  try {
    for (const [done, m] of order.entries()) {
      const pass = await scoreModel(options, m, done, taught);
      if (m === teacher) taught = { source: models[m]!, hidden: pass.hidden };
      else pass.hidden.close();
      for (const [t, scored] of pass.scored.entries()) result[t]![m] = scored;
    }
    return result;
  } finally {
    taught?.hidden.close();
  }
}

/** One model's pass; the teacher's hidden states are kept behind the final norm, as its head reads them. */
async function scoreModel(
  options: ScoreTextsOptions,
  m: number,
  modelsDone: number,
  taught: { source: HeadSource; hidden: HiddenStates } | null,
): Promise<{ scored: ScoredByModel[]; hidden: HiddenStates }> {
  const { models, texts, runtime, scratchDirectory, signal, onTokens, mappings } = options;
  const model = models[m]!;
  const sequenceLength = Math.max(...texts.map(({ ids }) => ids.length));
  const numTokens = texts.length * sequenceLength;
  const executor = await ModelExecutor.open({
    ...{ ...model, sequenceLength, runtime, scratchDirectory, direction: "forward" },
  });
  let hidden: HiddenStates | null = null;
  try {
    throwIfCancelled(signal);
    const routing = new RoutingOfTexts(texts, sequenceLength, mappings[m] ?? null);
    let tokens = 0;
    const onChunk = (chunk: number) => {
      tokens += chunk / model.description.layers.length;
      onTokens?.(Math.round(modelsDone * numTokens + tokens), models.length * numTokens);
    };
    hidden = await executor.forward(batchOf(texts, sequenceLength), { observer: routing, signal, onChunk });
    const sharedHead = taught !== null && (await headsAreEqual(model, taught.source));
    const { sessions, plan } = executor;
    const against = taught === null ? null : { source: taught.source, sharedHead };
    const head = new VocabularyHead(model, sessions, plan.headPositions, against);
    const labels = labelsOf(texts, sequenceLength);
    const rows = taught
      ? await head.compare(hidden, taught.hidden, labels, signal)
      : { nll: await head.nll(hidden, labels, signal), kl: null };
    if (m === options.teacher) await head.normalise(hidden, signal);
    const scored = texts.map(({ ids, promptTokens }, t): ScoredByModel => {
      const from = t * sequenceLength + promptTokens - 1;
      const to = t * sequenceLength + ids.length - 1;
      // Rounding of float32 may take a KL of equal distributions below 0.
      const kl = rows.kl === null ? null : Array.from(rows.kl.subarray(from, to), (value) => Math.max(0, value));
      return { nll: Array.from(rows.nll.subarray(from, to)), kl, routing: routing.of(t) };
    });
    return { scored, hidden };
  } catch (error) {
    hidden?.close();
    throw error;
  } finally {
    await executor.close();
  }
}

/** Texts one after another, shorter ones padded. */
function batchOf(texts: ScoreTextsOptions["texts"], sequenceLength: number) {
  const ids = new Int32Array(texts.length * sequenceLength);
  const valid = new Uint8Array(ids.length);
  for (const [t, text] of texts.entries()) {
    ids.set(text.ids, t * sequenceLength);
    valid.fill(1, t * sequenceLength, t * sequenceLength + text.ids.length);
  }
  return { ids, valid };
}

/** The next token of each position; of padding 0, which nobody reads. */
function labelsOf(texts: ScoreTextsOptions["texts"], sequenceLength: number): Int32Array {
  const labels = new Int32Array(texts.length * sequenceLength);
  for (const [t, { ids }] of texts.entries()) labels.set(ids.subarray(1), t * sequenceLength);
  return labels;
}

/** Keeps where response tokens went, by text and layer. */
class RoutingOfTexts implements RoutingObserver {
  readonly #layers: ScoredRouting[][];

  constructor(
    readonly texts: ScoreTextsOptions["texts"],
    readonly sequenceLength: number,
    readonly mapping: Readonly<Record<string, number[][]>> | null,
  ) {
    this.#layers = texts.map(() => []);
  }

  observe(seen: MoeObservation): void {
    const { firstToken, numTokens, numExpertsPerToken: k, selectedIds, routingWeights } = seen;
    for (let token = 0; token < numTokens; token++) {
      const t = Math.floor((firstToken + token) / this.sequenceLength);
      const at = (firstToken + token) % this.sequenceLength;
      const { ids, promptTokens } = this.texts[t]!;
      if (at < promptTokens || at >= ids.length) continue;
      const layer = this.#layer(t, seen);
      const slots = Array.from({ length: k }, (_, slot) => token * k + slot);
      slots.sort((a, b) => routingWeights[b]! - routingWeights[a]! || a - b);
      layer.experts.push(...slots.map((slot) => selectedIds[slot]!));
      layer.weights.push(...slots.map((slot) => routingWeights[slot]!));
    }
  }

  of(text: number): ScoredRouting[] {
    return this.#layers[text]!;
  }

  #layer(text: number, { layer, numRouterRows, numExpertsPerToken }: MoeObservation): ScoredRouting {
    const layers = this.#layers[text]!;
    const last = layers.at(-1);
    if (last?.layer === layer) return last;
    const mapped = this.mapping?.[String(layer)];
    const teacherExperts = mapped?.length === numRouterRows && !mapped.every(isSelf) ? mapped : null;
    const made = { layer, numExperts: numRouterRows, numExpertsPerToken, experts: [], weights: [], teacherExperts };
    layers.push(made);
    return made;
  }
}

function isSelf(experts: readonly number[], expert: number): boolean {
  return experts.length === 1 && experts[0] === expert;
}
