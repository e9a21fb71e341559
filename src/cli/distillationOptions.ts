import type { BuildOptions, DenseChoice, DenseScales } from "../protocol/denseStudent";
import { RerouteError } from "../protocol/errors";
import { distillationPresets, type DistillationPreset } from "../protocol/presets";

/** Options of `reroute calibrate` that say what student is built. */
export interface BuildChoices {
  teacher?: string;
  buildStudent?: number | true;
  choose?: DenseChoice;
  scales?: DenseScales;
}

/** Options of `reroute calibrate` that say how it is taught: divergence, the teacher's routing, and who writes the sequences. */
export interface DistillationChoices {
  preset?: DistillationPreset;
  divergence?: string;
  mix?: number;
  onPolicy?: number;
  promptTokens?: number;
  replay?: number;
  teacherRouting?: string;
  active?: number;
  lambda?: number;
  draws?: number;
  routerLearningRate?: number;
  roundUpdates?: number;
  freezeAbove?: number;
}

/** How the student is built; null where one is named. @throws RerouteError arguments/invalid */
export function studentToBuildOf({
  buildStudent,
  choose,
  scales,
  teacher,
}: BuildChoices): Partial<BuildOptions> | null {
  const invalid = (message: string) => new RerouteError("arguments/invalid", message);
  if (buildStudent === undefined) {
    if ((choose ?? scales) === undefined) return null;
    throw invalid("--choose and --scales say how a student is built; add --build-student");
  }
  if (teacher !== undefined)
    throw invalid("With --build-student the checkpoint named first is the teacher; leave --teacher out");
  return {
    ...(buildStudent === true ? {} : { experts: buildStudent }),
    ...(choose === undefined ? {} : { choose }),
    ...(scales === undefined ? {} : { scales }),
  };
}

/** The choices of divergence and teacher routing, a preset expanded. @throws RerouteError arguments/invalid */
export function distillationOptions({
  preset,
  divergence,
  mix,
  teacherRouting,
  active,
  lambda,
  draws,
  routerLearningRate,
  roundUpdates,
  freezeAbove,
  onPolicy: share,
  promptTokens,
  replay,
}: DistillationChoices): Record<string, unknown> {
  const expanded = preset === undefined ? {} : distillationPresets[preset];
  const kind = teacherRouting ?? expanded.teacherRouting?.kind;
  const isOnPolicy = share !== undefined || expanded.onPolicy !== undefined;
  if (!isOnPolicy && (promptTokens ?? replay) !== undefined)
    throw new RerouteError(
      "arguments/invalid",
      "--prompt-tokens and --replay say how the student writes its sequences; name their share with --on-policy",
    );
  const ofRouters = kind === "student-aware" || !isOnPolicy ? { roundUpdates } : {};
  const numbers = Object.entries({ active, lambda, draws, routerLearningRate, ...ofRouters, freezeAbove }).filter(
    ([, value]) => value !== undefined,
  );
  if (numbers.length > 0 && (kind === undefined || kind === "own"))
    throw new RerouteError(
      "arguments/invalid",
      `The option for ${numbers[0]![0]} says how the teacher routes; name how with --teacher-routing active, augment or student-aware`,
    );
  const known = kind === expanded.teacherRouting?.kind ? expanded.teacherRouting : {};
  return {
    ...expanded,
    ...(divergence === undefined ? {} : { divergence }),
    ...(mix === undefined ? {} : { mix }),
    ...(isOnPolicy
      ? { onPolicy: { ...expanded.onPolicy, ...given({ share, promptTokens, replay, roundUpdates }) } }
      : {}),
    ...(kind === undefined ? {} : { teacherRouting: { ...known, kind, ...Object.fromEntries(numbers) } }),
  };
}

function given(options: Record<string, number | undefined>): Record<string, number | undefined> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}
