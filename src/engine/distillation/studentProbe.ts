import { elementCount } from "../tensor/dtype";
import type { MemoryTensor } from "../checkpoint/safetensorsFile";
import type { Divergence } from "../graph/blocks/divergence";
import { ModelExecutor } from "../execution/modelExecutor";
import { finalHidden, type ProbeModel, type ProbeOptions } from "../execution/probe";
import { Tape } from "../execution/tape";
import { headsAreEqual, VocabularyHead } from "../execution/vocabularyHead";
import { trainableWeights, type TrainableWeight } from "./scope";
import type { CalibrateOptions } from "../../protocol/calibrateOptions";

export interface StudentProbeOptions extends ProbeOptions {
  /** As it routes: its description may have other numbers of active experts. */
  teacher: ProbeModel;
  scope: Exclude<CalibrateOptions["scope"], "router+top-experts">;
  divergence: Divergence;
  temperature: number;
  /** [batch, positions - 1], 1 where the position's next token counts; null: all count. */
  targets: Uint8Array | null;
}

/**
 * The numerical probe of distillation: temperature^2 times the mean divergence of the student from the teacher over the
 * target positions, and its exact gradient in everything that the scope trains.
 * - loss F32 [1], nats
 * - grad.<tensor of the student's checkpoint> F32, of the tensor's shape; slices of a fused one that do not train are 0
 *
 * @throws RerouteError what trainableWeights, reading and running raise
 */
export async function runStudentProbe(options: StudentProbeOptions): Promise<Map<string, MemoryTensor>> {
  const { model, teacher, inputIds, positions, runtime, scratchDirectory, divergence, temperature } = options;
  const weights = trainableWeights(model.description, options.scope);
  const trainable = new Set(weights.map(({ key }) => key));
  using teacherHidden = await finalHidden(teacher, options);
  const student = { ...model, trainable };
  const executor = await ModelExecutor.open({
    ...{ ...student, sequenceLength: positions, runtime, scratchDirectory, direction: "backward" },
  });
  const tape = new Tape();
  try {
    using hidden = await executor.forward({ ids: inputIds }, { tape });
    const source = { source: teacher, sharedHead: await headsAreEqual(model, teacher) };
    const head = new VocabularyHead(student, executor.sessions, executor.plan.headPositions, source, executor.trained);
    const rowWeights = weightsOfTargets(options);
    const gradients = executor.trained.zeros();
    const losses = await head.lossAndGradient(
      hidden,
      { teacherHidden, labels: new Int32Array(inputIds.length) },
      rowWeights,
      { loss: "kd", temperature, divergence },
      undefined,
      gradients,
    );
    const loss = losses.reduce((sum, value, row) => sum + (rowWeights[row] === 0 ? 0 : value * rowWeights[row]!), 0);
    await executor.backward(tape, hidden, {}, gradients);
    return new Map([
      ["loss", { dtype: "F32", shape: [1], data: Float32Array.of(loss) }],
      ...gradientTensors(model, weights, gradients),
    ]);
  } finally {
    tape.close();
    await executor.close();
  }
}

/** Each target position's weight in the loss, temperature^2 / targets; 0 elsewhere. */
function weightsOfTargets({ batch, positions, targets, temperature }: StudentProbeOptions): Float32Array {
  const isTarget = targets ?? new Uint8Array(batch * (positions - 1)).fill(1);
  const count = isTarget.reduce((sum, one) => sum + one, 0);
  const rowWeights = new Float32Array(batch * positions);
  for (let sequence = 0; sequence < batch; sequence++) {
    for (let i = 0; i + 1 < positions; i++) {
      rowWeights[sequence * positions + i] = (isTarget[sequence * (positions - 1) + i]! * temperature ** 2) / count;
    }
  }
  return rowWeights;
}

/** Gradients under the names and in the shapes of the checkpoint's tensors. */
export function gradientTensors(
  { checkpoint }: Pick<ProbeModel, "checkpoint">,
  weights: readonly TrainableWeight[],
  gradients: ReadonlyMap<string, Float32Array>,
): Map<string, MemoryTensor> {
  const found = new Map<string, MemoryTensor & { data: Float32Array }>();
  for (const { key, view } of weights) {
    const name = `grad.${view.tensor}`;
    const { shape } = checkpoint.tensors.get(view.tensor)!;
    const known = found.get(name) ?? { dtype: "F32", shape, data: new Float32Array(elementCount(shape)) };
    known.data.set(gradients.get(key)!, view.offset);
    found.set(name, known);
  }
  return found;
}
