import type { CalibrationPanelData } from "../../src/protocol/panels";

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

const verdictNote = "The verdict is measured on the evaluation text.";

/** Held-out sequences are shown by their KL to the teacher, with the text's own loss (lm) by theirs. */
export function lossWords(loss: CalibrationPanelData["loss"]): LossWords {
  const common = { heldOut: "held-out KL", unit: "nats a token", heldOutValue: ({ kl }: { kl: number }) => kl };
  switch (loss) {
    case undefined:
    case "kd":
      return {
        ...common,
        title: "KL to the teacher by update",
        axis: "KL(teacher || student), nats a token",
        training: "training KL",
        note: `KL of each update on its training text, and on sequences held out of it. ${verdictNote}`,
      };
    case "lm":
      return {
        ...common,
        title: "Loss of the text by update",
        axis: "-log p(next token), nats a token",
        training: "training loss",
        heldOut: "held-out loss",
        heldOutValue: ({ nll }) => nll,
        note: `Loss of each update on its training text, and on sequences held out of it. ${verdictNote}`,
      };
    case "kd+lm":
      return {
        ...common,
        title: "Loss and held-out KL by update",
        axis: "nats a token",
        training: "training loss",
        note: `Weighted sum of KL to the teacher and loss of the text at each update, and KL on held-out sequences. ${verdictNote}`,
      };
    case "router-logits":
      return {
        ...common,
        title: "Router logits and held-out KL by update",
        axis: "squared difference; KL in nats a token",
        training: "training difference",
        unit: "squared logits",
        note: `Mean squared difference of router logits to the teacher's at each update, and KL on held-out sequences. ${verdictNote}`,
      };
  }
}
