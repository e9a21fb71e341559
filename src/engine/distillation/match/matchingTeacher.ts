import type { TokenSequences } from "../../data/sequences";
import { tokenBatch } from "../../execution/batches";
import type { HeadSource } from "../../execution/headGraphs";
import { ModelExecutor } from "../../execution/modelExecutor";
import { moeLayers } from "../../model/moeLayers";
import type { MoeObservation } from "../../execution/observer";
import type { RuntimeOptions } from "../../runtime/session";
import { BatchMatch } from "./batchMatch";
import { expertTargets, targetEnergy } from "./expertTerm";
import type { LayerTargets, MatchedLayer } from "./layerTargets";
import { expertOfTeacher, matchMapping, type MatchMapping, type MatchWeights } from "./matchMapping";
import { teacherProbabilities } from "./routerTerm";

export interface MatchingTeacherOptions {
  teacher: HeadSource;
  student: HeadSource;
  match: MatchWeights;
  /** Student expert -> teacher expert ids by layer number, from the student's plan. */
  expertMapping: Readonly<Record<string, number[][]>> | null;
  sequenceLength: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
}

/**
 * Runs the teacher over a batch before the student learns from it and keeps, of each sparse layer, what is compared. Too
 * much to keep for a whole text (the feed-forward inputs of every layer), so it runs once an update.
 */
export class MatchingTeacher {
  readonly #layers: ReadonlyMap<number, MatchedLayer>;

  private constructor(
    readonly executor: ModelExecutor,
    readonly options: MatchingTeacherOptions,
    readonly mapping: MatchMapping,
  ) {
    const { teacher, student, match } = options;
    const ofStudent = new Map(moeLayers(student.description).map(({ layer, moe }) => [layer, moe]));
    this.#layers = new Map(
      moeLayers(teacher.description).map(({ layer: index, moe }) => {
        const layer = teacher.description.layers.find((one) => one.index === index)!;
        const beside = ofStudent.get(layer.index) ?? null;
        const rows = mapping.logits?.get(layer.index);
        const expertOf =
          match.experts !== undefined && beside && rows
            ? expertOfTeacher(rows, beside, moe.router.weight.shape[0]!)
            : null;
        return [layer.index, { layer, moe, student: beside, expertOf }];
      }),
    );
  }

  /** @throws RerouteError what matchMapping raises */
  static async open(options: MatchingTeacherOptions): Promise<MatchingTeacher> {
    const { teacher, student, match, expertMapping, sequenceLength, runtime, scratchDirectory } = options;
    const mapping = matchMapping(student.description, teacher.description, match, expertMapping);
    const executor = await ModelExecutor.open({
      ...{ ...teacher, sequenceLength, runtime, scratchDirectory, direction: "forward" },
    });
    return new MatchingTeacher(executor, options, mapping);
  }

  /** The teacher's side of a batch. The caller closes it. */
  async batch(sequences: TokenSequences, student: ModelExecutor, signal?: AbortSignal): Promise<BatchMatch> {
    const batch = tokenBatch(sequences);
    const targets = new Map<number, LayerTargets>();
    const found = new BatchMatch(this.executor, student, this.options.match, this.#layers, targets, batch);
    try {
      for (const matched of this.#layers.values())
        targets.set(matched.layer.index, this.#empty(matched, batch.ids.length));
      const hidden = await this.executor.forward(batch, {
        signal,
        observer: { observe: (seen) => this.#observe(seen, targets.get(seen.layer)!, batch.valid) },
        onFeedForward: (layer, from, residual, output) => {
          const added = targets.get(layer)?.added;
          if (added) addChunk(added, from, residual, output, batch.valid);
        },
      });
      hidden.close();
      return found;
    } catch (error) {
      found.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.executor.close();
  }

  #empty({ layer, moe }: MatchedLayer, tokens: number): LayerTargets {
    const { match, teacher } = this.options;
    const { hiddenSize } = teacher.description;
    const logits = this.mapping.logits?.get(layer.index)?.length ?? 0;
    const wide = match.experts === undefined ? 0 : 1;
    const perToken = 4 * (hiddenSize * (wide + (match.feedForward === undefined ? 0 : 1)) + logits);
    const states = (width: number) => this.executor.newStates(tokens, width, perToken * this.#layers.size);
    const k = moe.numExpertsPerToken;
    return {
      probabilities: match.router === undefined ? null : states(logits),
      experts:
        match.experts === undefined
          ? null
          : {
              ...{ input: states(hiddenSize), ids: new Int32Array(tokens * k) },
              ...{ weights: new Float32Array(tokens * k), energy: 0 },
            },
      added: match.feedForward === undefined ? null : { rows: states(hiddenSize), energy: 0 },
    };
  }

  #observe(seen: MoeObservation, targets: LayerTargets, valid: Uint8Array | undefined): void {
    const { moe, student, expertOf } = this.#layers.get(seen.layer)!;
    const { firstToken, numRouterRows, routerLogits, numExpertsPerToken: k, selectedIds, routingWeights } = seen;
    if (targets.probabilities !== null) {
      const mapping = this.mapping.logits!.get(seen.layer)!;
      targets.probabilities.write(firstToken, teacherProbabilities(moe.routing, routerLogits, numRouterRows, mapping));
    }
    if (targets.experts === null) return;
    targets.experts.input.write(firstToken, seen.feedForwardInput!);
    targets.experts.ids.set(selectedIds, firstToken * k);
    targets.experts.weights.set(routingWeights, firstToken * k);
    const rows = { selectedIds, routingWeights, ...seen.weightedRows! };
    const size = { k, width: seen.hiddenSize, experts: student!.numExperts };
    const gathered = expertTargets(rows, size, expertOf!, (token) => valid?.[firstToken + token] !== 0);
    targets.experts.energy += targetEnergy(gathered);
  }
}

/** Keeps output - residual of a chunk, and adds up its squares over the tokens that count. */
function addChunk(
  added: NonNullable<LayerTargets["added"]>,
  from: number,
  residual: Float32Array,
  output: Float32Array,
  valid: Uint8Array | undefined,
): void {
  const rows = output.map((value, i) => value - residual[i]!);
  const { width } = added.rows;
  rows.forEach((value, i) => {
    if (valid?.[from + Math.floor(i / width)] !== 0) added.energy += value * value;
  });
  added.rows.write(from, rows);
}
