import type { PlanAmount } from "../../src/protocol/panels";
import { element } from "../common/dom";
import { decimal } from "../common/format";
import { t } from "../common/translate";

type Changed = (amount: PlanAmount, value: number) => void;

/** The numbers of a plan as sliders: dragged, or moved by arrow keys; told once they are let go. */
export class AmountSliders {
  readonly element = element("section", { "data-amounts": true, hidden: true });
  private readonly list = element("div", { class: "amounts" });
  private rows: { key: string; slider: HTMLInputElement; output: HTMLOutputElement; amount: PlanAmount }[] = [];

  constructor(
    heading: string,
    private readonly changed: Changed,
  ) {
    this.element.append(element("h2", {}, heading), this.list);
  }

  show(amounts: readonly PlanAmount[], disabled: boolean): void {
    this.element.hidden = amounts.length === 0;
    const keys = amounts.map(({ layer, name }) => `${layer} ${name}`);
    // The one being dragged must stay the same element.
    if (keys.join() !== this.rows.map(({ key }) => key).join()) {
      this.rows = amounts.map((amount, i) => this.row(keys[i]!, amount));
      this.list.replaceChildren(
        ...this.rows.map(({ slider, output, amount }) =>
          element("label", { class: "amount" }, element("span", {}, labelOf(amount)), slider, output),
        ),
      );
    }
    for (const [i, row] of this.rows.entries()) {
      row.amount = amounts[i]!;
      const { choices, min, max, step, value, text } = row.amount;
      row.slider.min = String(choices ? 0 : min);
      row.slider.max = String(choices ? choices.length - 1 : max);
      row.slider.step = String(choices ? 1 : step);
      row.slider.value = String(choices ? choices.indexOf(value) : value);
      row.slider.setAttribute("aria-valuetext", text);
      row.slider.disabled = disabled;
      row.output.textContent = text;
    }
  }

  private row(key: string, amount: PlanAmount): (typeof this.rows)[number] {
    const slider = element("input", { type: "range" });
    const output = element("output", {});
    const row = { key, slider, output, amount };
    const value = (): number => row.amount.choices?.[Number(slider.value)] ?? Number(slider.value);
    slider.addEventListener("input", () => {
      output.textContent = decimal(value());
    });
    slider.addEventListener("change", () => {
      this.changed(row.amount, value());
    });
    return row;
  }
}

function labelOf({ layer, name }: PlanAmount): string {
  return [layer === null ? t("Every layer") : t("Layer {0}", layer), name].filter(Boolean).join(", ");
}
