import { describe, expect, it } from "vitest";
import {
  nextWizardState,
  positionOf,
  splitOff,
  startWizard,
  stepsOf,
  type Answers,
  type Purpose,
  type WizardState,
} from "../../../src/extension/wizard/questions";
import { checkpoint, student } from "./checkpoints";

describe("questions", () => {
  it.each<[string, Purpose, typeof student, Answers, string]>([
    [
      "a full model is compressed first",
      "calibrate",
      checkpoint(),
      {},
      "method keep text heldOut amount output summary",
    ],
    [
      "method and ratio may be answered at once",
      "calibrate",
      checkpoint(),
      { method: "reap", keep: 0.625, recommended: true },
      "method text heldOut amount output summary",
    ],
    ["a student names its teacher itself", "calibrate", student, {}, "text heldOut amount output summary"],
    [
      "a student without provenance",
      "calibrate",
      checkpoint(),
      { method: "none" },
      "method teacher text heldOut amount output summary",
    ],
    ["compressing alone", "compress", checkpoint(), {}, "method keep text heldOut amount output summary"],
    [
      "a student that is there learns by a preset",
      "distil",
      checkpoint(),
      { student: "/models/small" },
      "student preset ownSequences text heldOut amount output summary",
    ],
    [
      "one that is built of the teacher's experts",
      "distil",
      checkpoint(),
      { student: ":build" },
      "student build preset ownSequences text heldOut amount output summary",
    ],
    [
      "one that is compressed first",
      "distil",
      checkpoint(),
      { student: ":compress" },
      "student method keep preset ownSequences text heldOut amount output summary",
    ],
    ["profiling", "profile", checkpoint(), {}, "text amount summary"],
    ["evaluating", "evaluate", student, {}, "text amount summary"],
    ["comparing asks for the other one", "compare", student, {}, "teacher text amount summary"],
    [
      "comparing methods asks for a grid",
      "compareMethods",
      checkpoint(),
      {},
      "methods ratios recovery text heldOut amount summary",
    ],
  ])("%s", (_, purpose, summary, answers, steps) => {
    expect(stepsOf({ purpose, checkpoint: summary }, answers).join(" ")).toBe(steps);
  });
});

describe("moving through them", () => {
  const answer = (state: WizardState | null, answers: Answers) =>
    nextWizardState(state!, { type: "answered", answers });
  const back = (state: WizardState | null) => nextWizardState(state!, { type: "back" });

  it("leads to the summary, counting the steps", () => {
    let state: WizardState | null = startWizard({ purpose: "calibrate", checkpoint: checkpoint() });
    expect(positionOf(state)).toEqual({ step: 1, totalSteps: 7 });
    state = answer(state, { method: "reap" });
    state = answer(state, { keep: 0.5 });
    state = answer(state, { text: "/data/a.jsonl" });
    state = answer(state, { heldOut: splitOff });
    state = answer(state, { amount: { sequences: 8, sequenceLength: 16 } });
    state = answer(state, { output: "/out" });
    expect(state).toMatchObject({ step: "summary", answers: { method: "reap", keep: 0.5, text: "/data/a.jsonl" } });
    expect(positionOf(state!)).toEqual({ step: 7, totalSteps: 7 });
  });

  it("keeps answers when going back, and leaves from the first question", () => {
    const first = startWizard({ purpose: "calibrate", checkpoint: checkpoint() });
    const second = answer(first, { method: "ean" });
    expect(back(second)).toMatchObject({ step: "method", answers: { method: "ean" } });
    expect(back(back(second))).toBeNull();
  });

  it("follows the other branch when the first answer changes", () => {
    const first = startWizard({ purpose: "calibrate", checkpoint: checkpoint() });
    const other = answer(back(answer(first, { method: "reap" })), { method: "none" });
    expect(other).toMatchObject({ step: "teacher" });
  });
});
