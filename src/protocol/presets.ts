import type { CalibrateOptions } from "./calibrateOptions";

export const distillationPresetNames = ["router-kd", "kd", "reverse", "gkd", "all", "ka", "sar"] as const;
export type DistillationPreset = (typeof distillationPresetNames)[number];

/**
 * What methods of the literature choose of the calibration's options; a recipe holds these, not the name. Router KD: arXiv
 * 2603.02217. All experts active, Knowledge Augmentation and Student-Aware Router: Every Expert Matters, arXiv 2502.12947, on the text that is
 * given; the student's own is the option onPolicy beside it. gkd: generalised distillation on the student's own sequences, arXiv 2306.13649.
 */
export const distillationPresets: Readonly<
  Record<
    DistillationPreset,
    Partial<Pick<CalibrateOptions, "loss" | "scope" | "divergence" | "teacherRouting" | "onPolicy">>
  >
> = {
  "router-kd": { loss: "kd", scope: "router" },
  kd: { loss: "kd", divergence: "forward" },
  reverse: { loss: "kd", divergence: "reverse" },
  gkd: {
    loss: "kd",
    divergence: "reverse",
    onPolicy: { share: 1, promptTokens: 32, roundUpdates: 32, replay: 0, temperature: 1 },
  },
  all: { loss: "kd", divergence: "reverse", teacherRouting: { kind: "active" } },
  ka: { loss: "kd", divergence: "reverse", teacherRouting: { kind: "augment", lambda: 0.05, draws: 2 } },
  sar: {
    loss: "kd",
    divergence: "reverse",
    teacherRouting: { kind: "student-aware", roundUpdates: 32, freezeAbove: 0.1 },
  },
};
