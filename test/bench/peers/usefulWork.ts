import type { ModelDescription } from "../../../src/engine/model/description";
import { flopsPerToken } from "../../../src/engine/model/parameters";

/*
 * Useful floating-point operations of one token, two a multiply-add: what nobody can leave out. Work done again, passes
 * over memory and sums are none. Over the machine's matrix-product rate they give the limit by count.
 */

export function forwardFlops(description: ModelDescription, sequenceLength: number): number {
  return flopsPerToken(description, sequenceLength);
}

/** All layers, without the vocabulary head. */
export function layerFlops(description: ModelDescription, sequenceLength: number): number {
  return flopsPerToken(description, sequenceLength) - headFlops(description);
}

/**
 * Gradients of routers: for every product of the layers one for its input; in the lowest layer only what the routing weights' gradients
 * ask for, the product with the down projection (a third of its experts).
 */
export function routerGradientFlops(description: ModelDescription, sequenceLength: number): number {
  const above = layerFlops({ ...description, layers: description.layers.slice(1) }, sequenceLength);
  const { feedForward } = description.layers[0]!;
  const down = feedForward.kind === "moe" ? feedForward.numExpertsPerToken * downFlops(feedForward.experts[0]!) : 0;
  return above + down;
}

/** An update of Router KD: teacher, student, its head's gradient and its layers'. */
export function routerKdFlops(teacher: ModelDescription, student: ModelDescription, sequenceLength: number): number {
  const passes = forwardFlops(teacher, sequenceLength) + forwardFlops(student, sequenceLength);
  return passes + headFlops(student) + routerGradientFlops(student, sequenceLength);
}

function headFlops({ vocabSize, hiddenSize }: ModelDescription): number {
  return 2 * vocabSize * hiddenSize;
}

function downFlops({ downProj }: { downProj: { weight: { shape: readonly number[] } } }): number {
  return 2 * downProj.weight.shape.reduce((product, size) => product * size, 1);
}
