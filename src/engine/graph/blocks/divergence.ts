import type { DivergenceKind } from "../../../protocol/calibrateOptions";
import type { GraphBuilder } from "../builder";
import type { Value } from "../graph";

/** How two distributions over the vocabulary are compared; `mix` is the beta of jsd and the alpha of the skewed ones. */
export interface Divergence {
  kind: DivergenceKind;
  mix: number;
}

/** Of P, the teacher's distribution, and Q, the student's: their logarithms, and themselves. */
interface Pair {
  logP: Value;
  logQ: Value;
  p: Value;
  q: Value;
  mix: number;
}

/** A divergence of each row [T, 1], and its gradient in the student's logits [T, V], in closed form. */
type Rule = (builder: GraphBuilder, pair: Pair) => { loss: Value; gradient: Value };

/**
 * With M(a) = a P + (1 - a) Q and proj(g)_v = q_v (g_v - sum_u q_u g_u), the gradient of sum_v q_v g_v in logits where g is
 * held: jsd is that of generalised knowledge distillation (Agarwal et al., arXiv 2306.13649), the skewed ones are
 * DistiLLM's (Ko et al., arXiv 2402.03898), whose alpha is the share of the first argument.
 */
export const divergences: Readonly<Record<DivergenceKind, Rule>> = {
  // KL(P || Q): q - p
  forward: (builder, { logP, logQ, p, q }) => ({
    loss: expected(builder, p, builder.sub(logP, logQ)),
    gradient: builder.sub(q, p),
  }),

  // KL(Q || P): proj(ln q/p)
  reverse: (builder, { logP, logQ, q }) => {
    const ratio = builder.sub(logQ, logP);
    return { loss: expected(builder, q, ratio), gradient: projected(builder, q, ratio) };
  },

  // b KL(P || M(b)) + (1 - b) KL(Q || M(b)): (1 - b) proj(ln q/M)
  jsd: (builder, pair) => {
    const { logP, logQ, p, q, mix } = pair;
    const logM = logMixture(builder, pair, mix);
    const ratio = builder.sub(logQ, logM);
    const ofTeacher = builder.scale(expected(builder, p, builder.sub(logP, logM)), mix);
    const ofStudent = builder.scale(expected(builder, q, ratio), 1 - mix);
    return {
      loss: builder.add(ofTeacher, ofStudent),
      gradient: builder.scale(projected(builder, q, ratio), 1 - mix),
    };
  },

  // KL(P || M(a)): -(1 - a) proj(p/M)
  "skew-forward": (builder, pair) => {
    const { logP, p, q, mix } = pair;
    const ratio = builder.sub(logP, logMixture(builder, pair, mix));
    const share = builder.exp(ratio);
    return { loss: expected(builder, p, ratio), gradient: builder.scale(projected(builder, q, share), mix - 1) };
  },

  // KL(Q || M(1 - a)): proj(ln q/M - a q/M)
  "skew-reverse": (builder, pair) => {
    const { logQ, q, mix } = pair;
    const ratio = builder.sub(logQ, logMixture(builder, pair, 1 - mix));
    const share = builder.scale(builder.exp(ratio), mix);
    return { loss: expected(builder, q, ratio), gradient: projected(builder, q, builder.sub(ratio, share)) };
  },
};

/**
 * The divergence of each row at a temperature t, [T, 1], without the factor t^2 that keeps its gradient's size, and its
 * gradient in the student's logits [T, V].
 *
 * @param teacherLogits [T, V], constants
 */
export function rowDivergence(
  builder: GraphBuilder,
  teacherLogits: Value,
  studentLogits: Value,
  { kind, mix }: Divergence,
  temperature: number,
): { loss: Value; gradient: Value } {
  const logP = builder.logSoftmax(builder.scale(teacherLogits, 1 / temperature));
  const logQ = builder.logSoftmax(builder.scale(studentLogits, 1 / temperature));
  const { loss, gradient } = divergences[kind](builder, {
    logP,
    logQ,
    p: builder.exp(logP),
    q: builder.exp(logQ),
    mix,
  });
  return { loss, gradient: builder.scale(gradient, 1 / temperature) };
}

/** sum_v weights_v values_v of each row. */
function expected(builder: GraphBuilder, weights: Value, values: Value): Value {
  return builder.reduceSum(builder.mul(weights, values), [1], true);
}

function projected(builder: GraphBuilder, q: Value, g: Value): Value {
  return builder.mul(q, builder.sub(g, expected(builder, q, g)));
}

/** ln(share P + (1 - share) Q) from logarithms: the larger of both, plus what the other adds, which never overflows. */
function logMixture(builder: GraphBuilder, { logP, logQ }: Pair, share: number): Value {
  const a = builder.add(logP, builder.constant([Math.log(share)]));
  const b = builder.add(logQ, builder.constant([Math.log1p(-share)]));
  const larger = builder.where(builder.less(a, b), b, a);
  const gap = builder.neg(builder.abs(builder.sub(a, b)));
  return builder.add(larger, builder.append("Softplus", [gap], {}, gap.type, gap.shape));
}
