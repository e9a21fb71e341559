import type { EmptyReason, PageCommand } from "../../src/protocol/pageMessages";
import { element } from "./dom";
import { button } from "./toolkit";
import { untrusted } from "./untrusted";

const commandLabels: Partial<Record<PageCommand, string>> = {
  calibrateRouter: "Calibrate router…",
  compressExperts: "Compress experts…",
  profileRouting: "Profile routing…",
  evaluateCheckpoint: "Evaluate checkpoint…",
  runRecipe: "Run a recipe…",
  openSampleCheckpoint: "Open the sample checkpoint",
  showEngineLog: "Show engine log",
};

/** Says why there is nothing to show, and offers the command that would change it. */
export function emptyState(reason: EmptyReason, run: (command: PageCommand) => void): HTMLElement {
  const { command } = reason;
  return element(
    "div",
    { class: "notice empty" },
    element("p", {}, untrusted(reason.message, 400)),
    command !== null &&
      button(commandLabels[command] ?? "Open", () => {
        run(command);
      }),
  );
}

/** Says what went wrong, with its code, and offers to try again. */
export function errorState(code: string, message: string, retry: () => void): HTMLElement {
  return element(
    "div",
    { class: "notice error", role: "alert" },
    element("p", {}, element("strong", {}, "This page cannot be shown. "), untrusted(message, 400)),
    element("p", { class: "muted" }, "Error code: ", untrusted(code)),
    button("Retry", retry),
  );
}
