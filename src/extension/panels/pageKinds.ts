import * as vscode from "vscode";
import type { PageCommand } from "../../protocol/pageMessages";
import type { PageName } from "../../protocol/pageData";

/** Pages that are editor panels; the Overview is a view, the tensor table and the plan are custom editors. */
export type PanelPage = Exclude<PageName, "overview" | "tensors" | "plan">;

interface PanelKind {
  title: () => string;
  /** Codicon of the tab, as files in media/. */
  icon: string;
  /** What an empty panel says and offers. */
  empty: () => { message: string; command: PageCommand | null };
}

/** One row per panel: everything that differs between them on this side. */
export const panelKinds: Record<PanelPage, PanelKind> = {
  routing: {
    title: () => vscode.l10n.t("Routing"),
    icon: "routing.svg",
    empty: () => ({
      message: vscode.l10n.t("This run has not profiled a checkpoint yet"),
      command: "profileRouting",
    }),
  },
  divergence: {
    title: () => vscode.l10n.t("Divergence"),
    icon: "divergence.svg",
    empty: () => ({
      message: vscode.l10n.t("Teacher and student are compared once this run has evaluated them"),
      command: "calibrateRouter",
    }),
  },
  similarity: {
    title: () => vscode.l10n.t("Similarity"),
    icon: "similarity.svg",
    empty: () => ({
      message: vscode.l10n.t("Expert similarity is collected while profiling, which this run has not done"),
      command: "profileRouting",
    }),
  },
  calibration: {
    title: () => vscode.l10n.t("Router KD"),
    icon: "calibration.svg",
    empty: () => ({ message: vscode.l10n.t("This run has not calibrated a router yet"), command: "calibrateRouter" }),
  },
  tradeOff: {
    title: () => vscode.l10n.t("Trade-off"),
    icon: "tradeOff.svg",
    empty: () => ({
      message: vscode.l10n.t("No run of this folder has been evaluated yet"),
      command: "calibrateRouter",
    }),
  },
  text: {
    title: () => vscode.l10n.t("Text"),
    icon: "text.svg",
    empty: () => ({
      message: vscode.l10n.t(
        "Tokens of the text are kept while profiling, which this run has not done, or an older version did",
      ),
      command: "profileRouting",
    }),
  },
  workers: {
    title: () => vscode.l10n.t("Workers"),
    icon: "workers.svg",
    empty: () => ({
      message: vscode.l10n.t("This run's work was not spread over workers: no queue was set when it was started"),
      command: null,
    }),
  },
  distillation: {
    title: () => vscode.l10n.t("Distillation"),
    icon: "distillation.svg",
    empty: () => ({
      message: vscode.l10n.t(
        "This run has no figures of distillation: a recipe asks for them by activeExperts in its data, a calibration with student-aware routing and a comparison of ways to teach write them",
      ),
      command: "runRecipe",
    }),
  },
  playground: {
    title: () => vscode.l10n.t("Playground"),
    icon: "playground.svg",
    empty: () => ({ message: vscode.l10n.t("No checkpoint was chosen"), command: "openPlayground" }),
  },
};

/** The view type that VS Code keeps a panel under over reloads. */
export function viewTypeOf(page: PanelPage): string {
  return `reroute.${page}`;
}
