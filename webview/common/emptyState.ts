import type { EmptyReason, PageCommand } from "../../src/protocol/pageMessages";
import { element } from "./dom";
import { button } from "./toolkit";
import { untrusted } from "./untrusted";
import { t } from "./translate";

const commandLabels: Partial<Record<PageCommand, string>> = {
  calibrateRouter: t("Calibrate router…"),
  compressExperts: t("Compress experts…"),
  profileRouting: t("Profile routing…"),
  evaluateCheckpoint: t("Evaluate checkpoint…"),
  runRecipe: t("Run a recipe…"),
  openSampleCheckpoint: t("Open the sample checkpoint"),
  showEngineLog: t("Show engine log"),
};

/** Says why there is nothing to show, and offers the command that would change it. */
export function emptyState(reason: EmptyReason, run: (command: PageCommand) => void): HTMLElement {
  const { command } = reason;
  return element(
    "div",
    { class: "notice empty" },
    element("p", {}, untrusted(reason.message, 400)),
    command !== null &&
      button(commandLabels[command] ?? t("Open"), () => {
        run(command);
      }),
  );
}

/** Says what went wrong, with its code, and offers to try again. */
export function errorState(code: string, message: string, retry: () => void): HTMLElement {
  return element(
    "div",
    { class: "notice error", role: "alert" },
    element("p", {}, element("strong", {}, t("This page cannot be shown. ")), untrusted(message, 400)),
    element("p", { class: "muted" }, t("Error code: "), untrusted(code)),
    button(t("Retry"), retry),
  );
}
