import { RerouteError } from "../../protocol/errors";
import { moeLayers, numLogits } from "../model/moeLayers";
import type { ModelDescription } from "../model/description";

/** Teacher experts behind each of a student's router logits, by layer number. */
export type LogitMapping = ReadonlyMap<number, readonly (readonly number[])[]>;

/**
 * The student's axis in the teacher's terms: kept experts of a pruned student, members of each group of a merged one whose
 * router has one row a group, and each logit for itself where both have as many.
 *
 * @param experts student expert -> teacher expert ids by layer number, as the compression plan says; null without a plan
 * @throws RerouteError teacher/mismatch where the plan does not explain the student's number of logits
 */
export function logitMapping(
  student: ModelDescription,
  teacher: ModelDescription,
  experts: Readonly<Record<string, number[][]>> | null,
): LogitMapping {
  const widths = new Map(moeLayers(teacher).map(({ layer: index, moe }) => [index, numLogits(moe)]));
  return new Map(
    moeLayers(student).map(({ layer: index, moe }) => {
      const [width, teacherWidth] = [numLogits(moe), widths.get(index) ?? 0];
      const known = experts?.[String(index)];
      const fits = known?.length === width && known.flat().every((id) => id < teacherWidth);
      if (fits && known.every((ids) => ids.length > 0)) return [index, known];
      if (width === teacherWidth) return [index, Array.from({ length: width }, (_, e) => [e])];
      throw new RerouteError(
        "teacher/mismatch",
        `Router logits of layer ${index} cannot be matched: the student's router has ${width}, the teacher's ${teacherWidth}, and ` +
          `the student's reroute.json holds no plan that says which stands for which; use loss kd or lm without initialise`,
      );
    }),
  );
}

/**
 * Teacher logits [tokens, E_T] on the student's axis, [tokens, E_S]: that of the kept expert, or the logsumexp over a
 * group's members, whose softmax is the group's probability (follow-up study, arXiv 2609.06076).
 */
export function mapLogits(
  teacher: Float32Array,
  teacherWidth: number,
  mapping: readonly (readonly number[])[],
): Float32Array {
  const rows = teacher.length / teacherWidth;
  const mapped = new Float32Array(rows * mapping.length);
  for (let row = 0; row < rows; row++) {
    mapping.forEach((ids, e) => (mapped[row * mapping.length + e] = logSumExp(teacher, row * teacherWidth, ids)));
  }
  return mapped;
}

function logSumExp(values: Float32Array, from: number, ids: readonly number[]): number {
  if (ids.length === 1) return values[from + ids[0]!]!;
  let largest = -Infinity;
  for (const id of ids) largest = Math.max(largest, values[from + id]!);
  let sum = 0;
  for (const id of ids) sum += Math.exp(values[from + id]! - largest);
  return largest + Math.log(sum);
}

/**
 * Direct router-logit matching, one layer's part: the mean squared difference over experts and tokens that count, divided
 * by the number of layers, and its gradient in the student's logits.
 *
 * @param student [tokens, E]; `teacher` the same on the student's axis
 * @param valid 1 for tokens that count; absent: all count
 */
export function routerLogitLoss(
  student: Float32Array,
  teacher: Float32Array,
  { width, layers, valid }: { width: number; layers: number; valid?: Uint8Array | undefined },
): { loss: number; gradient: Float32Array } {
  const tokens = student.length / width;
  const counting = valid === undefined ? tokens : valid.reduce((sum, one) => sum + one, 0);
  const share = 1 / (counting * width * layers);
  const gradient = new Float32Array(student.length);
  let loss = 0;
  for (let token = 0; token < tokens; token++) {
    if (valid?.[token] === 0) continue;
    for (let i = token * width; i < (token + 1) * width; i++) {
      const difference = student[i]! - teacher[i]!;
      loss += share * difference * difference;
      gradient[i] = 2 * share * difference;
    }
  }
  return { loss, gradient };
}
