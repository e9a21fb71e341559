import { appendBackward } from "../autodiff/backward";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { rowKl, rowNll, vocabularyLogits } from "../graph/blocks/head";
import { BlockWeights } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { ModelDescription } from "../model/description";

/** A model's weights and description, as graphs of the vocabulary head need them. */
export interface HeadSource {
  checkpoint: Checkpoint;
  description: ModelDescription;
}

/** x [T, H] -> hidden [T, H] after the final norm: what teacher targets are cached as. */
export function finalNormGraph({ checkpoint, description }: HeadSource): Graph {
  const { builder, x, weights } = start(checkpoint, description);
  return builder.build({ hidden: weights.norm(x, description.finalNorm) });
}

/** x [T, H] -> logits [T, V]. */
export function logitsGraph({ checkpoint, description }: HeadSource): Graph {
  const { builder, x, weights } = start(checkpoint, description);
  return builder.build({ logits: vocabularyLogits(weights, weights.norm(x, description.finalNorm), description) });
}

/** x, labels int32 [T, 1] -> nll [T, 1]. */
export function nllGraph({ checkpoint, description }: HeadSource): Graph {
  const { builder, x, weights } = start(checkpoint, description);
  const logits = vocabularyLogits(weights, weights.norm(x, description.finalNorm), description);
  return builder.build({ nll: rowNll(weights, logits, labelsInput(builder)) });
}

/**
 * Student x, labels, and the teacher's normalised hidden states -> kl, nll and agreement (1 where both models' most
 * likely token is the same), [T, 1] each. The teacher's head is its own where it differs from the student's.
 */
export function comparisonGraph(student: HeadSource, teacher: HeadSource, sharedHead: boolean): Graph {
  const { builder, x, weights } = start(student.checkpoint, student.description);
  const { studentLogits, teacherLogits } = bothLogits(builder, x, weights, student, teacher, sharedHead);
  return builder.build({
    kl: rowKl(weights, teacherLogits, studentLogits, 1),
    nll: rowNll(weights, studentLogits, labelsInput(builder)),
    agreement: agreement(builder, teacherLogits, studentLogits),
  });
}

export interface LossOptions {
  loss: "kd" | "lm";
  temperature: number;
}

/**
 * The training loss and its gradient: x, rowWeights [T, 1], and teacherHidden (KD) or labels (LM) -> rowLoss [T, 1] and
 * dx, the gradient of sum_t rowWeights_t * rowLoss_t. Router KD's factor temperature^2 and the division by the number of
 * target positions are in rowWeights.
 */
export function lossGraph(
  student: HeadSource,
  teacher: HeadSource,
  sharedHead: boolean,
  { loss, temperature }: LossOptions,
): Graph {
  const { builder, x, weights } = start(student.checkpoint, student.description);
  let rowLoss: Value;
  if (loss === "kd") {
    const { studentLogits, teacherLogits } = bothLogits(builder, x, weights, student, teacher, sharedHead);
    rowLoss = rowKl(weights, teacherLogits, studentLogits, temperature);
  } else {
    const logits = vocabularyLogits(weights, weights.norm(x, student.description.finalNorm), student.description);
    rowLoss = rowNll(weights, logits, labelsInput(builder));
  }
  const [dx] = appendBackward(builder, [{ output: rowLoss, gradient: builder.input("rowWeights", ["T", 1]) }], [x]);
  return builder.build({ rowLoss, dx: dx! });
}

function start(checkpoint: Checkpoint, { hiddenSize }: ModelDescription) {
  const builder = new GraphBuilder();
  return { builder, x: builder.input("x", ["T", hiddenSize]), weights: new BlockWeights(builder, checkpoint) };
}

function labelsInput(builder: GraphBuilder): Value {
  return builder.input("labels", ["T", 1], "int32");
}

function bothLogits(
  builder: GraphBuilder,
  x: Value,
  weights: BlockWeights,
  student: HeadSource,
  teacher: HeadSource,
  sharedHead: boolean,
) {
  const studentLogits = vocabularyLogits(weights, weights.norm(x, student.description.finalNorm), student.description);
  const teacherHidden = builder.input("teacherHidden", ["T", teacher.description.hiddenSize]);
  const teacherWeights = sharedHead ? weights : new BlockWeights(builder, teacher.checkpoint, new Map(), "teacher:");
  const headOwner = sharedHead ? student : teacher;
  return { studentLogits, teacherLogits: vocabularyLogits(teacherWeights, teacherHidden, headOwner.description) };
}

/** 1 where some token has the largest logit of both models, [T, 1]. */
function agreement(builder: GraphBuilder, a: Value, b: Value): Value {
  const isLargest = (logits: Value) => builder.lessOrEqual(builder.reduceMax(logits, [1], true), logits);
  return builder.reduceMax(builder.cast(builder.and(isLargest(a), isLargest(b)), builder.floatType), [1], true);
}
