import * as vscode from "vscode";

export const back = Symbol("back");
export const closed = Symbol("closed");
/** What one question ends in: an answer, a step back, or the end of the wizard. */
export type StepResult<T> = T | typeof back | typeof closed;

export interface StepItem<T> extends vscode.QuickPickItem {
  /** Absent on separators. */
  value?: T;
}

export interface StepFrame {
  title: string;
  step: number;
  totalSteps: number;
  canGoBack: boolean;
}

/** Asks with a list. Items may come later (`items` is awaited with a busy bar). */
export function pickStep<T>(
  frame: StepFrame & { placeholder: string; isActive?: (item: StepItem<T>) => boolean },
  items: Promise<StepItem<T>[]>,
): Promise<StepResult<T>> {
  const pick = busyPick<StepItem<T>>(frame);
  let shown = true;
  const ready = items.then((loaded) => {
    if (!shown) return;
    pick.items = loaded;
    pick.busy = false;
    const active = loaded.find((item) => frame.isActive?.(item) ?? false);
    if (active) pick.activeItems = [active];
  });
  const answer = answerOf<T>(pick, (resolve) => {
    const value = pick.selectedItems[0]?.value;
    if (value !== undefined) resolve(value);
  });
  return Promise.race([answer, ready.then(() => answer)]).finally(() => {
    shown = false;
    pick.dispose();
  });
}

/** Waits for what the next step shows, with a busy bar; the user may go back or close meanwhile. */
export function waitStep<T>(frame: StepFrame & { placeholder: string }, found: Promise<T>): Promise<StepResult<T>> {
  const pick = busyPick(frame);
  return Promise.race([found, answerOf<T>(pick, () => undefined)]).finally(() => pick.dispose());
}

function busyPick<T extends vscode.QuickPickItem>(frame: StepFrame & { placeholder: string }): vscode.QuickPick<T> {
  const pick = vscode.window.createQuickPick<T>();
  setFrame(pick, frame);
  pick.placeholder = frame.placeholder;
  pick.matchOnDescription = true;
  pick.matchOnDetail = true;
  pick.busy = true;
  return pick;
}

/** Asks with a list of which several may be ticked; it is accepted only once `problemOf` finds nothing. */
export function pickManyStep<T>(
  frame: StepFrame & { placeholder: string },
  items: StepItem<T>[],
  isTicked: (value: T) => boolean,
  problemOf: (ticked: T[]) => string | null,
): Promise<StepResult<T[]>> {
  const pick = vscode.window.createQuickPick<StepItem<T>>();
  setFrame(pick, frame);
  pick.placeholder = frame.placeholder;
  pick.canSelectMany = true;
  pick.matchOnDetail = true;
  pick.items = items;
  pick.selectedItems = items.filter(({ value }) => value !== undefined && isTicked(value));
  return answerOf<T[]>(pick, (resolve) => {
    const ticked = pick.selectedItems.flatMap(({ value }) => (value === undefined ? [] : [value]));
    const problem = problemOf(ticked);
    if (problem === null) resolve(ticked);
    else pick.placeholder = problem;
  }).finally(() => pick.dispose());
}

/** Asks for a line of text; it is accepted only once `problemOf` finds nothing. */
export function inputStep(
  frame: StepFrame & { prompt: string; value: string },
  problemOf: (text: string) => string | null,
): Promise<StepResult<string>> {
  const input = vscode.window.createInputBox();
  setFrame(input, frame);
  input.prompt = frame.prompt;
  input.value = frame.value;
  const check = () => {
    const problem = problemOf(input.value);
    if (problem === null) input.validationMessage = undefined;
    else input.validationMessage = problem;
    return problem === null;
  };
  input.onDidChangeValue(check);
  return answerOf<string>(input, (resolve) => {
    if (check()) resolve(input.value);
  }).finally(() => input.dispose());
}

type Input = vscode.QuickPick<vscode.QuickPickItem> | vscode.InputBox;

/** Shows it until it is answered, gone back from or closed; `accept` may leave it open. */
function answerOf<T>(input: Input, accept: (resolve: (answer: T) => void) => void): Promise<StepResult<T>> {
  return new Promise((resolve) => {
    input.onDidAccept(() => accept(resolve));
    input.onDidTriggerButton(() => resolve(back));
    input.onDidHide(() => resolve(closed));
    input.show();
  });
}

function setFrame(input: Input, frame: StepFrame): void {
  input.title = frame.title;
  input.step = frame.step;
  input.totalSteps = frame.totalSteps;
  input.ignoreFocusOut = true;
  input.buttons = frame.canGoBack ? [vscode.QuickInputButtons.Back] : [];
}
