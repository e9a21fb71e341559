import type { Services } from "../services";
import type { StepFrame, StepResult } from "./pickStep";
import type { Answers, WizardState } from "./questions";

/** Stands for "let me type it" and "let me browse" among the items of a list. */
export const other = Symbol("other");

/** One question. `proposed` are the answers given last time. */
export type Ask = (
  frame: StepFrame,
  state: WizardState,
  proposed: Answers,
  services: Services,
) => Promise<StepResult<Answers>>;

/** What an input box says of an entry; null when nothing is wrong. */
export function problemOf(checked: { ok: true } | { ok: false; problem: string }): string | null {
  return checked.ok ? null : checked.problem;
}
