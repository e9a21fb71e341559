import type { PlaygroundChange, PlaygroundData } from "../../src/protocol/playground";
import type { Rgb } from "../../src/protocol/colourScales";
import { element } from "../common/dom";
import { exportMenu } from "../common/exportMenu";
import { bytes, decimal, duration } from "../common/format";
import type { PageServices } from "../common/page";
import { TableView } from "../common/tableView";
import { plainLabel, visibleSpaces } from "../common/text";
import { expertColour, scaleColour, textOn } from "../common/tokenColours";
import { TokenText, type ShownToken } from "../common/tokenText";
import { t } from "../common/translate";
import { untrusted } from "../common/untrusted";
import { firstExperts, scaleShare, speakerOf, valuesOf, type Colouring } from "./colouring";
import { describeToken, namesOf, responseTable } from "./numbers";

export interface ColumnColours {
  colouring: Colouring;
  /** Of the numbers that colour all responses. */
  largest: number;
}

/** One checkpoint: what it is, what a token takes, its response in colours, and the numbers as a table. */
export class Column {
  readonly element: HTMLElement;
  private readonly heading = element("h2", {});
  private readonly facts = element("p", { class: "muted" });
  private readonly problem = element("p", { class: "notice error", hidden: true });
  private readonly state = element("p", { class: "muted", "data-column-state": true });
  private readonly buttons = element("span", { class: "figure-actions" });
  private readonly text: TokenText;
  private readonly tableHost = element("details", { hidden: true }, element("summary", {}, t("Table")));
  private readonly actions: HTMLElement;
  private table: TableView | undefined;
  private data: PlaygroundData | undefined;

  constructor(
    private readonly index: number,
    private readonly services: PageServices,
    private readonly change: (change: PlaygroundChange) => void,
  ) {
    this.text = new TokenText(
      t("Response {0}", index + 1),
      t("Arrow keys move from token to token and read its numbers; the table holds the same."),
      services.announce,
      () => undefined,
    );
    this.actions = exportMenu(() => this.exported(), services, false);
    this.element = element(
      "section",
      { class: "figure", "data-column": index },
      element("div", { class: "figure-header" }, this.heading, this.buttons),
      this.facts,
      this.problem,
      this.state,
      this.text.element,
      this.actions,
      this.tableHost,
    );
  }

  show(data: PlaygroundData): void {
    this.data = data;
    const model = data.models[this.index]!;
    const isTeacher = model.role === "teacher";
    this.heading.replaceChildren(
      untrusted(model.name, 60),
      element("span", { class: "muted" }, ` · ${isTeacher ? t("teacher") : t("student")}`),
    );
    const { about } = model;
    this.facts.textContent = about ? `${about.family} · ${readingOf(about)}` : "";
    this.problem.hidden = model.problem === null;
    this.problem.replaceChildren(...(model.problem === null ? [] : [untrusted(model.problem, 400)]));
    const isWorking = isAtWork(data);
    const press = (label: string, action: PlaygroundChange["action"]): HTMLElement => {
      const made = element("button", { type: "button", class: "action", disabled: isWorking }, label);
      made.setAttribute("aria-label", `${label}: ${plainLabel(model.name, 60)}`);
      made.addEventListener("click", () => {
        this.change({ action, index: this.index });
      });
      return made;
    };
    const hadFocus = [...this.buttons.children].indexOf(document.activeElement as Element);
    this.buttons.replaceChildren(
      press(t("Replace"), "replace"),
      ...(isTeacher ? [] : [press(t("Make teacher"), "make-teacher")]),
      ...(data.models.length > 1 ? [press(t("Remove"), "remove")] : []),
    );
    (this.buttons.children[hadFocus] as HTMLElement | undefined)?.focus();
  }

  /** The response so far, in colours once it was scored. */
  draw({ colouring, largest }: ColumnColours): void {
    const { data } = this;
    if (!data) return;
    const { run } = data;
    const column = run?.columns[this.index];
    this.element.classList.toggle("no-response", !column);
    this.state.textContent = column ? stateOf(data, this.index) : "";
    const scores = run?.scores?.texts[this.index];
    const names = namesOf(data);
    const tokens = (column?.tokens ?? []).filter(({ id }) => id !== null);
    const teacher = teacherOf(data);
    const speaker = speakerOf(this.index, teacher, data.models.length, colouring);
    const values =
      scores && (colouring === "kl" || colouring === "nll" || colouring === "weight")
        ? valuesOf(scores, speaker, colouring)
        : null;
    const experts = scores && colouring === "expert" ? firstExperts(scores, this.index) : null;
    const { theme, colourScale } = this.services;
    const isDark = theme.kind === "dark" || theme.kind === "high-contrast";
    const colourOf = (token: number): Rgb | null => {
      const value = values?.[token];
      if (value !== null && value !== undefined) return scaleColour(scaleShare(value, largest), colourScale);
      const expert = experts?.[token];
      return expert === null || expert === undefined ? null : expertColour(expert, isDark);
    };
    this.text.show(
      tokens.map(({ text }, token): ShownToken => {
        const colour = scores ? colourOf(token) : null;
        const piece = scores?.pieces[token] ?? text;
        return {
          text: piece === "" ? "▯" : plainLabel(visibleSpaces(piece), 60),
          background: colour ? `rgb(${colour.join(", ")})` : "transparent",
          colour: colour ? textOn(colour) : "inherit",
          marked: false,
          description: scores ? describeToken(scores, token, names, this.index) : plainLabel(visibleSpaces(piece), 60),
        };
      }),
    );
    this.text.element.hidden = tokens.length === 0;
    this.actions.hidden = !scores;
    this.tableHost.hidden = !scores;
    if (!scores) return;
    const model = responseTable(scores, names, this.index, run?.scores?.layer ?? null);
    if (this.table) this.table.show(model);
    else {
      this.table = new TableView(model);
      this.tableHost.append(this.table.element);
    }
  }

  private exported() {
    const { data } = this;
    const scores = data?.run?.scores?.texts[this.index];
    if (!data || !scores) return null;
    const names = namesOf(data);
    const table = responseTable(scores, names, this.index, data.run?.scores?.layer ?? null);
    return { title: t("Response of {0}", names[this.index]!), table, png: null };
  }
}

export function isAtWork({ run }: PlaygroundData): boolean {
  return run !== null && ["waiting", "generating", "scoring"].includes(run.state);
}

export function teacherOf({ models }: PlaygroundData): number | null {
  const index = models.findIndex(({ role }) => role === "teacher");
  return index < 0 ? null : index;
}

/** What a token reads, and how long that takes where the weights do not stay in memory. */
function readingOf({ stepBytes, secondsPerStep }: NonNullable<PlaygroundData["models"][number]["about"]>): string {
  return secondsPerStep === null
    ? t("a token reads {0}, which stay in memory", bytes(stepBytes))
    : t(
        "larger than the free memory: a token reads {0} from the disk, about {1} each",
        bytes(stepBytes),
        duration(secondsPerStep),
      );
}

function stateOf(data: PlaygroundData, index: number): string {
  const run = data.run!;
  const { tokens, finish, metrics } = run.columns[index]!;
  const count = tokens.filter(({ id }) => id !== null).length;
  if (finish !== null && metrics) {
    const ends = {
      "end-token": t("ended by the model"),
      "stop-string": t("ended at a stop string"),
      "max-new-tokens": t("cut at max_new_tokens"),
      context: t("cut at the context's end"),
    };
    return t(
      "{0} tokens, {1}; first token after {2}, then {3} tokens/s",
      count,
      ends[finish],
      duration(metrics.secondsToFirstToken),
      decimal(metrics.stepsPerSecond, 3),
    );
  }
  if (!isAtWork(data)) return count > 0 ? t("{0} tokens, cancelled", count) : "";
  if (index !== run.model) return t("Waiting for its turn");
  return run.state === "waiting"
    ? t("Waiting: the checkpoint is opened, or other work of this window ends first")
    : t("{0} tokens so far", count);
}
