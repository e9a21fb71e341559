import type { CheckpointSummary } from "../../protocol/checkpointSummary";
import { distillationPresetNames, distillationPresets, type DistillationPreset } from "../../protocol/presets";
import type { Translate } from "../../protocol/translate";
import type { Choice } from "./choices";
import { expertCounts } from "./validation";

/** Ways of teaching that a student allows: routers alone train only where the student has some. */
export function teachingChoices(
  teacher: CheckpointSummary,
  studentIsDense: boolean,
  t: Translate,
): Choice<DistillationPreset>[] {
  const about: Record<DistillationPreset, string> = {
    "router-kd": t("Train the routers alone, by KL to the teacher"),
    kd: t("Forward KL to the teacher on the text: the default"),
    reverse: t("Reverse KL to the teacher on the text"),
    gkd: t("Reverse KL on sequences that the student writes itself"),
    all: t("Reverse KL to the teacher with all experts active"),
    ka: t("Knowledge Augmentation: the mean over draws of all experts but one"),
    sar: t("Student-Aware Router: all experts, and router copies that train towards the student"),
  };
  return distillationPresetNames
    .filter((preset) => preset !== "router-kd" || !studentIsDense)
    .map((value) => {
      const factor = teacherFactor(value, teacher);
      const cost = t("feed-forward work of the teacher × {0}", Number(factor.toPrecision(3)));
      return { label: value, description: about[value], ...(factor === 1 ? {} : { detail: cost }), value };
    });
}

/**
 * How often a preset does the feed-forward work of the teacher's own routing, roughly: active experts over its own number, times
 * draws; student-aware routing runs backward too, about three times a pass.
 */
export function teacherFactor(preset: DistillationPreset, teacher: CheckpointSummary): number {
  const routing = distillationPresets[preset].teacherRouting;
  const { most } = expertCounts(teacher);
  const own = teacher.numExpertsPerToken ?? most;
  switch (routing?.kind) {
    case undefined:
    case "own":
      return 1;
    case "active":
      return (routing.active ?? most) / own;
    case "augment":
      return (routing.draws * (routing.active ?? Math.max(1, most - 1))) / own;
    case "student-aware":
      return (3 * (routing.active ?? most)) / own;
  }
}
