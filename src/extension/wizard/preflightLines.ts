import { hasNoRatio } from "../../protocol/methods";
import type { Recipe } from "../../protocol/recipe";
import type { Preflight } from "../../protocol/run";
import { formatBytes, formatCount, formatDuration } from "../../protocol/quantities";
import type { Translate } from "../../protocol/translate";
import { editorWords, mayBeForced } from "../editorWords";
import { countsExperts, loadedBy } from "./choices";
import { optionWords } from "./methodOptions";

type Calibrate = NonNullable<Recipe["calibrate"]>;

export interface SummaryTable {
  columns: string[];
  rows: string[][];
}

export interface PreflightLine {
  kind: "fact" | "warning" | "refusal";
  label: string;
  description: string;
  /** Of a refusal: why, and whether it may be started all the same. */
  code?: string;
  mayBeForced?: boolean;
}

/** Stages of a pre-flight as a table: what each takes, and what that rests on. */
export function stageSummary({ stages }: Pick<Preflight, "stages">, t: Translate): SummaryTable | null {
  if (stages.length === 0) return null;
  return {
    columns: [t("Stage"), t("Time"), t("Peak memory"), t("Estimated from")],
    rows: stages.map(({ stage, seconds, peakMemoryBytes, assumption }) => [
      stage,
      formatDuration(seconds),
      formatBytes(peakMemoryBytes),
      assumption,
    ]),
  };
}

/** How a run may be started after its pre-flight: plainly, all the same ("force"), or not at all. */
export function startOf(lines: readonly PreflightLine[]): "start" | "force" | null {
  const refusals = lines.filter(({ kind }) => kind === "refusal");
  if (refusals.length === 0) return "start";
  return refusals.every((refusal) => refusal.mayBeForced) ? "force" : null;
}

/** What the last step of the wizard shows before anything starts: size, time, memory, disk, then what is wrong. */
export function preflightLines(preflight: Preflight, recipe: Recipe, t: Translate): PreflightLine[] {
  const fact = (label: string, description: string): PreflightLine => ({ kind: "fact", label, description });
  const lines = [
    ...choiceLines(recipe, t).map(([label, description]) => fact(label, description)),
    fact(
      t("Size"),
      t(
        "{0} to {1} parameters, {2} to {3}",
        formatCount(preflight.parametersBefore),
        formatCount(preflight.parametersAfter),
        formatBytes(preflight.bytesBefore),
        formatBytes(preflight.bytesAfter),
      ),
    ),
    fact(t("Time"), t("about {0}", formatDuration(preflight.seconds))),
    ...(preflight.steps ?? []).map(({ name, parameters, bytes, peakMemoryBytes }, i) =>
      fact(
        t("Step {0}, {1}", i + 1, name),
        t(
          "leaves {0} parameters, {1}; peak memory {2}",
          formatCount(parameters),
          formatBytes(bytes),
          formatBytes(peakMemoryBytes),
        ),
      ),
    ),
    fact(
      t("Memory"),
      t(
        "peak {0} of a budget of {1}",
        formatBytes(preflight.peakMemoryBytes),
        formatBytes(preflight.memoryBudgetBytes),
      ),
    ),
    fact(
      t("Disk"),
      t("{0} needed, {1} free", formatBytes(preflight.diskNeededBytes), formatBytes(preflight.diskFreeBytes)),
    ),
    ...(preflight.profileOf ? [fact(t("Profile"), t("that of {0} is reused", preflight.profileOf.name))] : []),
    ...(preflight.trained
      ? [
          fact(
            t("Trains"),
            t(
              "{0} parameters, scope {1}: {2}",
              formatCount(preflight.trained.parameters),
              preflight.trained.scope,
              preflight.trained.tensors.join(", "),
            ),
          ),
        ]
      : []),
    ...textLines(preflight, t),
  ];
  const compared = [recipe.compress, recipe.calibrate, recipe.steps].some((part) => part !== undefined);
  const unmeasured =
    compared && recipe.data.evaluation === undefined && !recipe.data.splitEvaluation
      ? [t("No held-out text: there will be no before/after comparison and no verdict")]
      : [];
  return [
    ...lines,
    ...[...preflight.warnings, ...(preflight.texts ?? []).flatMap(({ notes }) => notes), ...unmeasured].map(
      (message): PreflightLine => ({
        kind: "warning",
        label: t("Warning"),
        description: editorWords(message, t),
      }),
    ),
    ...preflight.refusals.map(({ message, code }): PreflightLine => ({
      kind: "refusal",
      label: t("Cannot start"),
      description: `${editorWords(message, t)} (${code})`,
      code,
      mayBeForced: mayBeForced({ code, message }),
    })),
  ];
}

/** The first sequence of each text. */
export function textLines({ texts = [] }: Pick<Preflight, "texts">, t: Translate): PreflightLine[] {
  return texts.flatMap(({ role, sequences }) =>
    sequences.slice(0, 1).map(({ text, tokens, special, padding }) => ({
      kind: "fact" as const,
      label: role === "calibration" ? t("Calibration text") : t("Evaluation text"),
      description: t(
        "{0} tokens count, {1} of them special; {2} of padding do not: {3}",
        tokens,
        special,
        padding,
        text,
      ),
    })),
  );
}

/** Every choice that the recipe holds, as it was made. */
function choiceLines(
  { teacher, student, data, compress, calibrate, output }: Recipe,
  t: Translate,
): [string, string][] {
  const amount = (sequences: number) => t("{0} sequences of {1} tokens", sequences, data.sequenceLength);
  const kept = (keep: number) => (keep <= 1 ? `${Number((keep * 100).toFixed(2))} %` : String(keep));
  const heldOut =
    data.evaluation !== undefined
      ? `${data.evaluation} · ${amount(data.evaluationSequences)}`
      : data.splitEvaluation
        ? t("split off the calibration text, {0}", amount(data.evaluationSequences))
        : t("none");
  return [
    ...(compress
      ? [
          [
            t("Method"),
            [
              compress.plan !== undefined
                ? t("{0}, as the plan {1} says", compress.method, compress.plan)
                : hasNoRatio(compress.method)
                  ? compress.method
                  : countsExperts(compress.method)
                    ? t("{0}, keeping {1} of each layer's experts", compress.method, kept(compress.keep))
                    : t("{0}, {1} of every expert", compress.method, kept(compress.keep)),
              ...(Object.keys(compress.options).length === 0 ? [] : [optionWords(compress.options)]),
              ...(compress.multipleOf === undefined ? [] : [t("in multiples of {0}", compress.multipleOf)]),
            ].join(", "),
          ] as [string, string],
          [t("Loaders"), loadedBy(compress.method, t)] as [string, string],
        ]
      : []),
    [student === undefined ? t("Checkpoint") : t("Teacher"), teacher],
    ...(student === undefined ? [] : [[t("Student"), studentOf(student, t)] as [string, string]]),
    [t("Text"), `${data.calibration} · ${amount(data.sequences)}`],
    ...(compress || calibrate ? [[t("Held-out text"), heldOut] as [string, string]] : []),
    ...(calibrate
      ? [
          [
            t("Calibration"),
            t(
              "learning rate {0}, {1} sequences an update, loss {2}",
              calibrate.learningRate,
              calibrate.batch,
              calibrate.loss,
            ),
          ] as [string, string],
          ...teachingOf(calibrate, t),
        ]
      : []),
    ...(compress || calibrate || typeof student === "object" ? [[t("Output"), output] as [string, string]] : []),
  ];
}

function studentOf(student: NonNullable<Recipe["student"]>, t: Translate): string {
  if (typeof student === "string") return student;
  const { experts, choose, scales, maxTokens } = student.build;
  const chosen = t("chosen by {0}, scales {1}, measured on at most {2} tokens", choose, scales, maxTokens);
  return experts === undefined
    ? t("built of as many experts a layer as a token goes to, {0}", chosen)
    : t("built of {0} experts a layer, {1}", experts, chosen);
}

/** How a student is taught, where it is not by the teacher's own routing on text with forward KL. */
function teachingOf({ divergence = "forward", teacherRouting, onPolicy }: Calibrate, t: Translate): [string, string][] {
  const parts = [
    ...(teacherRouting === undefined ? [] : routingOf(teacherRouting, t)),
    ...(onPolicy ? [t("{0} % of the sequences written by the student", Math.round(100 * onPolicy.share))] : []),
  ];
  if (parts.length === 0 && divergence === "forward") return [];
  return [[t("Teaching"), [t("divergence {0}", divergence), ...parts].join(", ")]];
}

function routingOf(routing: NonNullable<Calibrate["teacherRouting"]>, t: Translate): string[] {
  switch (routing.kind) {
    case "own":
      return [];
    case "active":
      return [t("{0} experts of the teacher active", routing.active ?? t("all"))];
    case "augment":
      return [t("{0} experts of the teacher active, in {1} draws", routing.active ?? t("all but one"), routing.draws)];
    case "student-aware":
      return [
        t("{0} experts of the teacher active, its router copies trained with the student", routing.active ?? t("all")),
      ];
  }
}
