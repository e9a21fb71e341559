import type { PlaygroundData, PlaygroundOptions, PlaygroundQuestion } from "../../src/protocol/playground";
import { element, uniqueId } from "../common/dom";
import type { PersistedView } from "../common/persist";
import { button } from "../common/toolkit";
import { t } from "../common/translate";

type NumberOption = Exclude<keyof PlaygroundOptions, "doSample">;

/** Under transformers' names; what `min`, `max` and `step` allow. Those that only sampling heeds are marked. */
const numberFields: { key: NumberOption; name: string; min: number; max?: number; step: number; samples?: true }[] = [
  { key: "maxNewTokens", name: "max_new_tokens", min: 1, step: 1 },
  { key: "minNewTokens", name: "min_new_tokens", min: 0, step: 1 },
  { key: "temperature", name: "temperature", min: 0.01, step: 0.05, samples: true },
  { key: "topK", name: "top_k", min: 0, step: 1, samples: true },
  { key: "topP", name: "top_p", min: 0.01, max: 1, step: 0.05, samples: true },
  { key: "minP", name: "min_p", min: 0, max: 0.99, step: 0.01, samples: true },
  { key: "repetitionPenalty", name: "repetition_penalty", min: 0.01, step: 0.05 },
  { key: "seed", name: "seed", min: 0, step: 1, samples: true },
];

/** A page's responses are read by people: fewer tokens than a file of settings may allow. */
const usualNewTokens = 64;
const usualSeed = 42;

/** Prompt and settings. They are kept over reloads; settings that were never touched are the teacher's own. */
export class PlaygroundForm {
  readonly element: HTMLElement;
  private readonly prompt = element("textarea", { rows: 4, class: "input", id: uniqueId("prompt") });
  private readonly system = element("textarea", { rows: 2, class: "input", id: uniqueId("system") });
  private readonly chat = element("input", { type: "checkbox" });
  private readonly doSample = element("input", { type: "checkbox" });
  private readonly numbers = new Map(
    numberFields.map(({ key, min, max, step }) => [
      key,
      element("input", {
        type: "number",
        class: "input",
        min,
        max: max ?? null,
        step: step < 1 ? "any" : 1,
        required: true,
      }),
    ]),
  );
  private readonly systemField: HTMLElement;
  private readonly go: HTMLElement;
  private readonly stop: HTMLElement;
  private readonly chatHint = element("span", { class: "muted" });
  private isWorking = false;

  constructor(
    private readonly persisted: PersistedView,
    private readonly asked: (question: PlaygroundQuestion) => void,
    cancelled: () => void,
  ) {
    this.go = button(t("Generate"), () => this.submit(), { primary: true });
    this.stop = button(t("Cancel"), cancelled);
    this.systemField = field(t("System message"), this.system);
    this.prompt.value = persisted.text("prompt");
    this.system.value = persisted.text("system");
    const settings = numberFields.map(({ key, name }) => field(name, this.numbers.get(key)!));
    this.element = element(
      "form",
      { "aria-label": t("Prompt and settings") },
      field(t("Prompt"), this.prompt),
      element("p", {}, element("label", { class: "check" }, this.chat, t("Chat template")), " ", this.chatHint),
      this.systemField,
      element(
        "div",
        { class: "toolbar" },
        element("label", { class: "check" }, this.doSample, "do_sample"),
        ...settings,
      ),
      element("div", { class: "buttons" }, this.go, this.stop),
    );
    this.element.addEventListener("input", () => {
      this.keep();
      this.follow();
    });
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
    });
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        this.submit();
      } else if (event.key === "Escape" && this.isWorking) cancelled();
    });
  }

  /** Settings as they were left, else the first checkpoint's. */
  show({ models, run }: PlaygroundData, isWorking: boolean): void {
    if (this.prompt.value === "" && run) this.prompt.value = run.question.prompt;
    const first = models.find(({ about }) => about !== null)?.about;
    const { view } = this.persisted.saved;
    for (const { key } of numberFields) {
      const saved = view[key];
      const usual = key === "seed" ? usualSeed : key === "maxNewTokens" ? usualNewTokens : (first?.defaults[key] ?? 0);
      this.numbers.get(key)!.value = String(typeof saved === "number" ? saved : usual);
    }
    this.doSample.checked =
      typeof view["doSample"] === "boolean" ? view["doSample"] : (first?.defaults.doSample ?? false);
    const lacking = models.filter(({ about }) => about !== null && !about.hasChatTemplate);
    this.chat.disabled = models.length === 0 || lacking.length > 0;
    this.chat.checked = !this.chat.disabled && view["chat"] === true;
    this.chatHint.textContent = lacking.length > 0 ? t("Not every checkpoint has one") : t("Each checkpoint's own");
    this.working(isWorking, models.length > 0 && models.every(({ problem }) => problem === null));
  }

  working(isWorking: boolean, isPossible: boolean): void {
    this.isWorking = isWorking;
    this.go.toggleAttribute("disabled", isWorking || !isPossible);
    this.stop.hidden = !isWorking;
    this.follow();
  }

  private follow(): void {
    this.systemField.hidden = !this.chat.checked;
    for (const { key, samples } of numberFields)
      this.numbers.get(key)!.disabled = samples === true && !this.doSample.checked;
  }

  private keep(): void {
    this.persisted.set("prompt", this.prompt.value);
    this.persisted.set("system", this.system.value);
    this.persisted.set("chat", this.chat.checked);
    this.persisted.set("doSample", this.doSample.checked);
    for (const [key, input] of this.numbers) if (input.value !== "") this.persisted.set(key, input.valueAsNumber);
  }

  private submit(): void {
    if (this.isWorking || this.go.hasAttribute("disabled")) return;
    if (this.prompt.value === "") {
      this.prompt.focus();
      return;
    }
    const wrong = [...this.numbers.values()].find((input) => !input.disabled && !input.checkValidity());
    if (wrong) {
      wrong.reportValidity();
      return;
    }
    const numbers = Object.fromEntries([...this.numbers].map(([key, input]) => [key, input.valueAsNumber]));
    const options = { ...(numbers as Record<NumberOption, number>), doSample: this.doSample.checked };
    this.asked({
      ...{ prompt: this.prompt.value, chat: this.chat.checked, options },
      system: this.chat.checked ? this.system.value : "",
    });
  }
}

function field(label: string, input: HTMLElement): HTMLElement {
  return element("label", { class: "control" }, element("span", {}, label), input);
}
