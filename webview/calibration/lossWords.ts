import type { CalibrationPanelData } from "../../src/protocol/panels";
import { t } from "../common/translate";

/** What the panel calls the trained loss and the held-out number that goes with it. */
export interface LossWords {
  title: string;
  axis: string;
  training: string;
  heldOut: string;
  unit: string;
  note: string;
  /** The held-out number in the unit of the training loss. */
  heldOutValue: (look: CalibrationPanelData["heldOut"][number]) => number;
}

const verdictNote = t("The verdict is measured on the evaluation text.");

/** Held-out sequences are shown by their KL to the teacher, with the text's own loss (lm) by theirs. */
export function lossWords(loss: CalibrationPanelData["loss"]): LossWords {
  const common = { heldOut: t("held-out KL"), unit: t("nats a token"), heldOutValue: ({ kl }: { kl: number }) => kl };
  switch (loss) {
    case undefined:
    case "kd":
      return {
        ...common,
        title: t("KL to the teacher by update"),
        axis: t("KL(teacher || student), nats a token"),
        training: t("training KL"),
        note: t("KL of each update on its training text, and on sequences held out of it. {0}", verdictNote),
      };
    case "lm":
      return {
        ...common,
        title: t("Loss of the text by update"),
        axis: t("-log p(next token), nats a token"),
        training: t("training loss"),
        heldOut: t("held-out loss"),
        heldOutValue: ({ nll }) => nll,
        note: t("Loss of each update on its training text, and on sequences held out of it. {0}", verdictNote),
      };
    case "kd+lm":
      return {
        ...common,
        title: t("Loss and held-out KL by update"),
        axis: t("nats a token"),
        training: t("training loss"),
        note: t(
          "Weighted sum of KL to the teacher and loss of the text at each update, and KL on held-out sequences. {0}",
          verdictNote,
        ),
      };
    case "router-logits":
      return {
        ...common,
        title: t("Router logits and held-out KL by update"),
        axis: t("squared difference; KL in nats a token"),
        training: t("training difference"),
        unit: t("squared logits"),
        note: t(
          "Mean squared difference of router logits to the teacher's at each update, and KL on held-out sequences. {0}",
          verdictNote,
        ),
      };
  }
}
