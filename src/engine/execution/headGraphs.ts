import { appendBackward, type Cotangent } from "../autodiff/backward";
import type { Checkpoint } from "../checkpoint/checkpoint";
import { rowKl, rowNll, vocabularyLogits } from "../graph/blocks/head";
import { rowDivergence, type Divergence } from "../graph/blocks/divergence";
import { BlockWeights, weightKey } from "../graph/blocks/weights";
import { GraphBuilder } from "../graph/builder";
import type { Graph, Value } from "../graph/graph";
import type { ModelDescription } from "../model/description";
import { headViews, viewsIn } from "./weightViews";

/** A model's weights and description, as graphs of the vocabulary head need them. */
export interface HeadSource {
  checkpoint: Checkpoint;
  description: ModelDescription;
  /** Keys of weights that train; those of final norm and head are graph inputs `weight:<key>`. */
  trainable?: ReadonlySet<string>;
  /** Keys of others that are given as inputs `weight:<key>`. */
  given?: ReadonlySet<string>;
}

/** x [T, H] -> hidden [T, H] after the final norm: what teacher targets are cached as. */
export function finalNormGraph(source: HeadSource): Graph {
  const { builder, x, weights } = start(source);
  return builder.build({ hidden: weights.norm(x, source.description.finalNorm) });
}

/** The head's weights [V, H], decoded. */
export function headWeightsGraph({ checkpoint, description }: HeadSource): Graph {
  const builder = new GraphBuilder();
  return builder.build({ weights: new BlockWeights(builder, checkpoint).float(description.head.weight) });
}

/** x [T, H] -> logits [T, V]. */
export function logitsGraph(source: HeadSource): Graph {
  const { builder, x, weights } = start(source);
  return builder.build({ logits: ownLogits(x, weights, source) });
}

/** x, labels int32 [T, 1] -> nll [T, 1]. */
export function nllGraph(source: HeadSource): Graph {
  const { builder, x, weights } = start(source);
  return builder.build({ nll: rowNll(weights, ownLogits(x, weights, source), labelsInput(builder)) });
}

/**
 * Student x, labels, and the teacher's normalised hidden states -> kl, nll and agreement (1 where both models' most
 * likely token is the same), [T, 1] each. The teacher's head is its own where it differs from the student's.
 */
export function comparisonGraph(student: HeadSource, teacher: HeadSource, sharedHead: boolean): Graph {
  const { builder, x, weights } = start(student);
  const { studentLogits, teacherLogits } = bothLogits(builder, x, weights, student, teacher, sharedHead);
  const [target, own] = toCommonWidth(builder, teacherLogits, studentLogits);
  return builder.build({
    kl: rowKl(weights, target, own, 1),
    nll: rowNll(weights, studentLogits, labelsInput(builder)),
    agreement: agreement(builder, target, own),
  });
}

/** The same -> overlap [T, 1], sum over the vocabulary of min(p, q): 1 less half of the distributions' distance. */
export function overlapGraph(student: HeadSource, teacher: HeadSource, sharedHead: boolean): Graph {
  const { builder, x, weights } = start(student);
  const { studentLogits, teacherLogits } = bothLogits(builder, x, weights, student, teacher, sharedHead);
  const [target, own] = toCommonWidth(builder, teacherLogits, studentLogits);
  const distance = builder.reduceSum(
    builder.abs(builder.sub(builder.softmax(target), builder.softmax(own))),
    [1],
    true,
  );
  return builder.build({ overlap: builder.add(builder.scale(distance, -0.5), builder.constant([1])) });
}

const forwardKl: Divergence = { kind: "forward", mix: 0 };

export interface LossOptions {
  loss: "kd" | "lm" | "kd+lm";
  temperature: number;
  /** Of kd; default: forward, KL(teacher || student). */
  divergence?: Divergence;
  /** Of "kd+lm": the share of the next token's loss; the rest is the divergence's. */
  lmShare?: number;
}

/**
 * The training loss and its gradients: x, rowWeights [T, 1], and teacherHidden (KD) and labels (LM) -> rowLoss [T, 1], dx
 * and `gradient:<key>` of what trains here: gradients of sum_t rowWeights_t * rowLoss_t. The row's loss is
 *   kd: the divergence from the teacher; lm: -log p(next token); kd+lm: (1 - lmShare) kd + lmShare / temperature^2 lm.
 * The division by the number of target positions, and the divergence's factor temperature^2, are in rowWeights.
 */
export function lossGraph(
  student: HeadSource,
  teacher: HeadSource,
  sharedHead: boolean,
  { loss, temperature, divergence: kind = forwardKl, lmShare = 0.5 }: LossOptions,
): Graph {
  const { builder, x, weights, trainable } = start(student);
  const lmWeight = loss === "lm" ? 1 : loss === "kd" ? 0 : lmShare;
  const parts: Value[] = [];
  const cotangents: Cotangent[] = [];
  const rowWeights = builder.input("rowWeights", ["T", 1]);
  const studentLogits = ownLogits(x, weights, student);
  let closedForm: Value | null = null;
  if (lmWeight < 1) {
    const teacherLogits = logitsOfTeacher(builder, weights, student, teacher, sharedHead);
    const [target, own] = toCommonWidth(builder, teacherLogits, studentLogits);
    if (kind.kind === "forward") {
      parts.push(builder.scale(rowKl(weights, target, own, temperature), 1 - lmWeight));
    } else {
      // Its gradient is known at the logits, where the backward pass then begins.
      const found = rowDivergence(builder, target, own, kind, temperature);
      closedForm = builder.scale(found.loss, 1 - lmWeight);
      cotangents.push({ output: own, gradient: builder.mul(builder.scale(found.gradient, 1 - lmWeight), rowWeights) });
    }
  }
  if (lmWeight > 0) {
    const scale = loss === "lm" ? 1 : lmWeight / temperature ** 2;
    parts.push(builder.scale(rowNll(weights, studentLogits, labelsInput(builder)), scale));
  }
  if (parts.length > 0) {
    cotangents.push({ output: parts.reduce((sum, part) => builder.add(sum, part)), gradient: rowWeights });
  }
  const rowLoss = [...(closedForm === null ? [] : [closedForm]), ...parts].reduce((sum, part) =>
    builder.add(sum, part),
  );
  const wanted = [["dx", x] as const, ...[...trainable].map(([key, value]) => [`gradient:${key}`, value] as const)];
  const gradients = appendBackward(
    builder,
    cotangents,
    wanted.map(([, value]) => value),
  );
  return builder.build({ rowLoss, ...Object.fromEntries(wanted.map(([name], i) => [name, gradients[i]!])) });
}

function start({ checkpoint, description, trainable: keys, given }: HeadSource) {
  const builder = new GraphBuilder();
  const x = builder.input("x", ["T", description.hiddenSize]);
  const inputs = new Map<string, Value>();
  for (const view of headViews(description)) {
    const key = weightKey(view);
    if (keys?.has(key) || given?.has(key)) inputs.set(key, builder.input(`weight:${key}`, view.shape));
  }
  const trainable = new Map([...inputs].filter(([key]) => keys?.has(key)));
  return { builder, x, weights: new BlockWeights(builder, checkpoint, inputs), trainable };
}

function ownLogits(x: Value, weights: BlockWeights, { description }: HeadSource): Value {
  return vocabularyLogits(weights, weights.norm(x, description.finalNorm), description);
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
  const studentLogits = ownLogits(x, weights, student);
  return { studentLogits, teacherLogits: logitsOfTeacher(builder, weights, student, teacher, sharedHead) };
}

function logitsOfTeacher(
  builder: GraphBuilder,
  weights: BlockWeights,
  student: HeadSource,
  teacher: HeadSource,
  sharedHead: boolean,
): Value {
  const teacherHidden = builder.input("teacherHidden", ["T", teacher.description.hiddenSize]);
  const teacherWeights = sharedHead
    ? weights
    : new BlockWeights(builder, teacher.checkpoint, trainedHeadOfTeacher(builder, teacher), "teacher:");
  return vocabularyLogits(teacherWeights, teacherHidden, (sharedHead ? student : teacher).description);
}

/** Of a teacher whose head trains elsewhere, its values as inputs `teacher weight:<key>`. */
function trainedHeadOfTeacher(builder: GraphBuilder, { description, trainable }: HeadSource): Map<string, Value> {
  const views = viewsIn([description.head.weight, description.head.bias]);
  const trained = views.filter((view) => trainable?.has(weightKey(view)));
  return new Map(
    trained.map((view) => [weightKey(view), builder.input(`teacher weight:${weightKey(view)}`, view.shape)]),
  );
}

/** Of vocabularies that differ by padding rows, the tokens that both have. */
function toCommonWidth(builder: GraphBuilder, a: Value, b: Value): [Value, Value] {
  const width = Math.min(a.shape[1] as number, b.shape[1] as number);
  const cut = (logits: Value) => (logits.shape[1] === width ? logits : builder.slice(logits, 1, 0, width));
  return [cut(a), cut(b)];
}

/** 1 where some token has the largest logit of both models, [T, 1]. */
function agreement(builder: GraphBuilder, a: Value, b: Value): Value {
  const isLargest = (logits: Value) => builder.lessOrEqual(builder.reduceMax(logits, [1], true), logits);
  return builder.reduceMax(builder.cast(builder.and(isLargest(a), isLargest(b)), builder.floatType), [1], true);
}
