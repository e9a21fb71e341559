import type { Selection } from "../../src/protocol/pageMessages";
import type { EvaluatedText, TextPanelData } from "../../src/protocol/panels";
import type { Rgb } from "../../src/protocol/colourScales";
import { element } from "../common/dom";
import { ExpertPanel } from "../common/expertPanel";
import { exportMenu } from "../common/exportMenu";
import { decimal } from "../common/format";
import { request } from "../common/messaging";
import { messageOf, type PageServices, type View } from "../common/page";
import type { PageContext } from "../../src/protocol/pageMessages";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { plainLabel, visibleSpaces } from "../common/text";
import { expertColour, scaleColour, textOn } from "../common/tokenColours";
import { TokenText, type ShownToken } from "../common/tokenText";
import { Select } from "../common/toolkit";
import { t } from "../common/translate";
import { evaluatedTable, measuresOf, readEvaluated, type EvaluatedColouring } from "./evaluated";
import { describe, expertsAt, isToken, profiledPositions, tableOf } from "./profiled";

/** What tokens of the profiled text are coloured by. */
const colourings = ["expert", "weight", "entropy"] as const;
type Colouring = (typeof colourings)[number];

const sources = ["profile", "evaluation"] as const;
type Source = (typeof sources)[number];

/**
 * The profiled text, each token coloured by what one layer's router did with it; follows the other panels' selection. Or the evaluated
 * text, each token coloured by how the students predict it.
 */
export class TextView implements View<"text"> {
  readonly element: HTMLElement;
  private data: TextPanelData | undefined;
  private selection: Selection | null = null;
  private asked = 0;
  private readonly layer: Select<number>;
  private readonly source: Select<Source>;
  private readonly colouring: Select<Colouring | EvaluatedColouring>;
  private readonly sequence: Select<number>;
  private readonly note = element("p", { class: "muted", "data-note": true });
  private readonly text: TokenText;
  private readonly expert: ExpertPanel;
  private readonly tableHost = element("details", {}, element("summary", {}, t("Table")));
  private table: TableView | undefined;

  constructor(private readonly services: PageServices) {
    const { persisted } = services;
    this.layer = new Select<number>(t("Layer"), (layer) => {
      this.ask(layer);
    });
    this.source = new Select<Source>(t("Text"), (value) => {
      persisted.set("source", value);
      this.draw();
    });
    this.colouring = new Select<Colouring | EvaluatedColouring>(t("Colour"), (value) => {
      persisted.set(this.isEvaluation() ? "evaluatedColouring" : "colouring", value);
      this.draw();
    });
    this.sequence = new Select<number>(t("Sequence"), (value) => {
      persisted.set("sequence", value);
      this.draw();
    });
    this.text = new TokenText(
      t("Text"),
      t("Arrow keys move from token to token, Enter shows a token's first expert; the table holds the same."),
      services.announce,
      (index) => {
        this.choose(index);
      },
    );
    this.expert = new ExpertPanel(services, (selection) => {
      services.select(selection);
      this.select(selection);
    });
    const exports = exportMenu(() => this.exported(), services, false);
    const controls = [this.source, this.layer, this.colouring, this.sequence].map((control) => control.element);
    this.element = element(
      "div",
      {},
      element("div", { class: "toolbar" }, ...controls, exports),
      this.note,
      element("div", { class: "beside" }, element("div", {}, this.text.element), this.expert.element),
      this.tableHost,
    );
    services.onSettings(() => {
      this.draw();
    });
    services.onTheme(() => {
      this.draw();
    });
  }

  show(data: TextPanelData, context: PageContext): void {
    const wanted = this.services.persisted.choice("layer", data.layers);
    const restored = this.data === undefined && this.services.persisted.flag("chosen") && wanted !== data.layer;
    this.accept(data);
    this.expert.reload(context);
    if (restored && wanted !== undefined) this.ask(wanted);
  }

  select(selection: Selection): void {
    this.selection = selection;
    this.expert.follow(selection);
    if (this.data && this.data.layer !== selection.layer && this.data.layers.includes(selection.layer))
      this.ask(selection.layer);
    else this.draw();
  }

  private ask(layer: number): void {
    const question = ++this.asked;
    this.services.persisted.set("layer", layer);
    this.services.persisted.set("chosen", true);
    request("text", { layer }).then(
      (data) => {
        if (question === this.asked && data) this.accept(data);
      },
      (error: unknown) => {
        if (question === this.asked)
          this.services.notify(t("Layer {0} could not be read: {1}", layer, messageOf(error)));
      },
    );
  }

  private accept(data: TextPanelData): void {
    this.data = data;
    this.layer.set(
      data.layers.map((value) => ({ value, label: t("Layer {0}", value) })),
      data.layer,
    );
    this.draw();
  }

  /** Whether the evaluated text is shown. */
  private isEvaluation(): boolean {
    return this.data?.evaluated != null && this.services.persisted.choice("source", sources) === "evaluation";
  }

  private draw(): void {
    const { data } = this;
    if (!data) return;
    const { evaluated } = data;
    const isEvaluation = this.isEvaluation();
    this.source.element.hidden = evaluated === null;
    this.source.set(
      [
        { value: "profile", label: t("Calibration text") },
        { value: "evaluation", label: t("Evaluation text") },
      ],
      isEvaluation ? "evaluation" : "profile",
    );
    this.layer.element.hidden = isEvaluation;
    const sequence = this.chosenSequence(isEvaluation ? evaluated! : data);
    const { tokens, note, table } = isEvaluation
      ? this.readEvaluation(evaluated!, sequence)
      : this.readProfile(data, sequence);
    this.text.show(tokens);
    this.note.textContent = note;
    if (this.table) this.table.show(table);
    else {
      this.table = new TableView(table);
      this.tableHost.append(this.table.element);
    }
  }

  private chosenSequence({ tokens, sequenceLength }: Pick<TextPanelData, "tokens" | "sequenceLength">): number {
    const sequences = Array.from({ length: Math.ceil(tokens.length / sequenceLength) }, (_, i) => i);
    const sequence = this.services.persisted.choice("sequence", sequences) ?? 0;
    this.sequence.set(
      sequences.map((value) => ({ value, label: t("{0} of {1}", value + 1, sequences.length) })),
      sequence,
    );
    return sequence;
  }

  private readEvaluation(text: EvaluatedText, sequence: number): ReturnType<typeof readEvaluated> {
    const { persisted, colourScale } = this.services;
    const choices = measuresOf(text).map(({ id, label }) => ({ value: id, label }));
    const ids = choices.map(({ value }) => value);
    const colouring = persisted.choice("evaluatedColouring", ids) ?? ids[0]!;
    this.colouring.set(choices, colouring);
    return readEvaluated(text, sequence, colouring, colourScale);
  }

  private readProfile(data: TextPanelData, sequence: number): ReturnType<typeof readEvaluated> {
    const { persisted } = this.services;
    const colouring = persisted.choice("colouring", colourings) ?? "expert";
    const labels: Record<Colouring, string> = {
      expert: t("Expert with the largest routing weight"),
      weight: t("Largest routing weight"),
      entropy: t("Entropy of the routing distribution"),
    };
    this.colouring.set(
      colourings.map((value) => ({ value, label: labels[value] })),
      colouring,
    );
    const legends: Record<Colouring, string> = {
      expert: t("Each expert has a colour of its own."),
      weight: t("From the least (dark) to the largest weight of the sequence's tokens."),
      entropy: t("From 0 (dark) to {0} nats, an even choice among all experts.", decimal(Math.log(data.numExperts), 3)),
    };
    const positions = profiledPositions(data, sequence);
    const selected = this.selectedExpert(data);
    const routed = positions.filter((position) => expertsAt(data, position).includes(selected ?? -1)).length;
    const marks =
      selected === null
        ? ""
        : t("Underlined: routed to expert {0} ({1} of {2} tokens).", selected, routed, positions.length);
    return {
      tokens: positions.map((position) => this.tokenAt(data, position, colouring)),
      note: [legends[colouring], marks].filter(Boolean).join(" "),
      table: tableOf(data, positions),
    };
  }

  private selectedExpert({ layer }: TextPanelData): number | null {
    return this.selection?.layer === layer ? this.selection.expert : null;
  }

  private tokenAt(data: TextPanelData, position: number, colouring: Colouring): ShownToken {
    const experts = expertsAt(data, position);
    const colour = this.colourAt(data, position, colouring);
    const selected = this.selectedExpert(data);
    return {
      text: plainLabel(visibleSpaces(data.tokens[position]!), 60),
      background: `rgb(${colour.join(", ")})`,
      colour: textOn(colour),
      marked: selected !== null && experts.includes(selected),
      description: describe(data, position),
    };
  }

  private colourAt(data: TextPanelData, position: number, colouring: Colouring): Rgb {
    const { theme, colourScale } = this.services;
    const k = data.numExpertsPerToken;
    if (colouring === "expert")
      return expertColour(data.experts[position * k]!, theme.kind === "dark" || theme.kind === "high-contrast");
    if (colouring === "entropy") return scaleColour(data.entropy[position]! / Math.log(data.numExperts), colourScale);
    const start = position - (position % data.sequenceLength);
    const first = profiledPositions(data, start / data.sequenceLength).map((at) => data.weights[at * k]!);
    const [low, high] = [Math.min(...first), Math.max(...first)];
    return scaleColour(high > low ? (data.weights[position * k]! - low) / (high - low) : 1, colourScale);
  }

  private choose(index: number): void {
    const { data } = this;
    if (!data || this.isEvaluation()) return;
    const sequence = this.services.persisted.choice("sequence", [...data.tokens.keys()]) ?? 0;
    const position = profiledPositions(data, sequence)[index];
    if (position === undefined) return;
    const selection = { layer: data.layer, expert: data.experts[position * data.numExpertsPerToken]! };
    this.services.select(selection);
    this.expert.open(selection);
    this.select(selection);
  }

  private exported(): { title: string; table: TableModel; png: null } | null {
    const { data } = this;
    if (!data) return null;
    if (this.isEvaluation()) return { title: t("Evaluation text"), table: evaluatedTable(data.evaluated!), png: null };
    const all = data.tokens.map((_, position) => position).filter((position) => isToken(data, position));
    return { title: t("Text layer {0}", data.layer), table: tableOf(data, all), png: null };
  }
}
