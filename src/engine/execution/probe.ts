import type { Checkpoint } from "../checkpoint/checkpoint";
import type { MemoryTensor } from "../checkpoint/safetensorsFile";
import type { ModelDescription } from "../model/description";
import { weightKey } from "../graph/blocks/weights";
import type { RuntimeOptions } from "../runtime/session";
import { ModelExecutor } from "./modelExecutor";
import { Tape } from "./tape";
import { moeLayers } from "../model/moeLayers";
import type { MoeObservation } from "./observer";
import { headsAreEqual, VocabularyHead } from "./vocabularyHead";

export interface ProbeModel {
  checkpoint: Checkpoint;
  description: ModelDescription;
}

export interface ProbeOptions {
  model: ProbeModel;
  /** With a teacher the probe also gives kd_loss and kd_grad.<layer>. */
  teacher: ProbeModel | null;
  /** [batch, positions] */
  inputIds: Int32Array;
  batch: number;
  positions: number;
  runtime: RuntimeOptions;
  scratchDirectory: string;
}

/**
 * The numerical probe: everything the forward pass decides, for a few sequences, by name.
 * - logits F32 [batch, positions, vocabulary]
 * - router_logits.<layer> F32 [tokens, experts]; topk_ids.<layer> I64 [tokens, k], ascending; topk_weights.<layer> F32
 * - with a teacher: kd_loss F32 [1], KL(teacher || student) at temperature 1 over the batch * (positions - 1) target
 *   positions, and kd_grad.<layer> F32 [experts, hidden], its gradient with respect to the router weight
 */
export async function runForwardProbe(options: ProbeOptions): Promise<Map<string, MemoryTensor>> {
  const { model, teacher, inputIds, batch, positions } = options;
  const result = new Map<string, MemoryTensor>();
  const record = ({ layer, numTokens, numRouterRows, numExpertsPerToken: k, ...arrays }: MoeObservation) => {
    append(result, `router_logits.${layer}`, "F32", arrays.routerLogits, numTokens, numRouterRows);
    append(result, `topk_ids.${layer}`, "I64", BigInt64Array.from(arrays.selectedIds, BigInt), numTokens, k);
    append(result, `topk_weights.${layer}`, "F32", arrays.routingWeights, numTokens, k);
  };
  using teacherHidden = teacher === null ? null : await finalHidden(teacher, options);
  const executor = await openExecutor(model, options, "backward");
  const tape = new Tape();
  try {
    using hidden = await executor.forward(
      { ids: inputIds },
      { observer: { observe: record }, ...(teacher ? { tape } : {}) },
    );
    const shared = teacher !== null && (await headsAreEqual(model, teacher));
    const head = new VocabularyHead(
      model,
      executor.sessions,
      executor.plan.headPositions,
      teacher === null ? null : { source: teacher, sharedHead: shared },
    );
    const logits = await head.logits(hidden);
    result.set("logits", { dtype: "F32", shape: [batch, positions, model.description.vocabSize], data: logits });
    if (teacherHidden !== null) {
      const targets = batch * (positions - 1);
      const rowWeights = new Float32Array(batch * positions).fill(1 / targets);
      for (let sequence = 0; sequence < batch; sequence++) rowWeights[(sequence + 1) * positions - 1] = 0;
      const losses = await head.lossAndGradient(
        hidden,
        { teacherHidden, labels: new Int32Array(inputIds.length) },
        rowWeights,
        {
          loss: "kd",
          temperature: 1,
        },
      );
      const loss = losses.reduce((sum, value, row) => sum + value * rowWeights[row]!, 0);
      result.set("kd_loss", { dtype: "F32", shape: [1], data: Float32Array.of(loss) });
      const gradients = await executor.backward(tape, hidden);
      for (const { layer, moe } of moeLayers(model.description)) {
        const { weight } = moe.router;
        result.set(`kd_grad.${layer}`, {
          dtype: "F32",
          shape: weight.shape,
          data: gradients.get(weightKey(weight))!,
        });
      }
    }
    return result;
  } finally {
    tape.close();
    await executor.close();
  }
}

/** Final hidden states behind the final norm, [tokens, hidden]. The caller closes them. */
export async function finalHidden(model: ProbeModel, options: Omit<ProbeOptions, "model" | "teacher">) {
  const executor = await openExecutor(model, options, "forward");
  try {
    const hidden = await executor.forward({ ids: options.inputIds });
    try {
      await new VocabularyHead(model, executor.sessions, executor.plan.headPositions).normalise(hidden);
      return hidden;
    } catch (error) {
      hidden.close();
      throw error;
    }
  } finally {
    await executor.close();
  }
}

function openExecutor(
  model: ProbeModel,
  { positions, runtime, scratchDirectory }: Pick<ProbeOptions, "positions" | "runtime" | "scratchDirectory">,
  direction: "forward" | "backward",
) {
  return ModelExecutor.open({ ...model, sequenceLength: positions, runtime, scratchDirectory, direction });
}

/** Adds one chunk's rows to a tensor that grows chunk by chunk. */
function append(
  result: Map<string, MemoryTensor>,
  name: string,
  dtype: "F32" | "I64",
  rows: Float32Array | BigInt64Array,
  numRows: number,
  width: number,
): void {
  const known = result.get(name);
  if (known === undefined) {
    result.set(name, { dtype, shape: [numRows, width], data: rows });
    return;
  }
  const before = known.data as typeof rows;
  const joined =
    dtype === "F32" ? new Float32Array(before.length + rows.length) : new BigInt64Array(before.length + rows.length);
  joined.set(before as never);
  joined.set(rows as never, before.length);
  result.set(name, { dtype, shape: [known.shape[0]! + numRows, width], data: joined });
}
