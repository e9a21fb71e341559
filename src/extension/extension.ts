/** The extension's wiring: what exists, and which function each command, view and editor is. */
import * as vscode from "vscode";
import { CheckpointFinder } from "./checkpoints/checkpointFinder";
import { CheckpointsTree } from "./checkpoints/checkpointsTree";
import { compareMethods } from "./commands/compareCommand";
import { exportData } from "./commands/exportCommand";
import { openPanel } from "./commands/panelCommands";
import { checkRecipe, runRecipe } from "./commands/recipeCommands";
import { cancelRun, openReport, openRunFolder, resumeRun } from "./commands/runCommands";
import { openSampleCheckpoint } from "./commands/sampleCommand";
import { importTrace } from "./commands/traceCommand";
import { wizardCommand } from "./commands/wizardCommands";
import { SafetensorsEditor } from "./editors/safetensorsEditor";
import { EngineClient } from "./engine/client";
import { showFailure } from "./failure";
import { OverviewView } from "./overview/overviewView";
import { PageHub } from "./panels/pageHub";
import { PanelHost } from "./panels/panelHost";
import { registerRecipeDocuments } from "./recipes/recipeDocuments";
import { offerResume } from "./runs/offerResume";
import { tellDisconnectPolicy } from "./runs/runInBackground";
import { RunList } from "./runs/runList";
import { showRunsInStatusBar } from "./runs/runStatusBar";
import { RunsTree } from "./runs/runsTree";
import { registerLanguageModelTools } from "./agents/languageModelTools";
import { RunTracker } from "./runs/runTracker";
import type { Services } from "./services";
import { refusedInRestrictedMode, tellRestrictedMode } from "./trust";
import { readSettings } from "./settings";

type Command = (argument: unknown) => unknown;

/** An engine without work is ended after this long: its memory goes back, and the next request starts one in 100 ms. */
const engineIdleMs = 5 * 60_000;

let running: Services | null = null;

export function activate(context: vscode.ExtensionContext): void {
  const begun = performance.now();
  const services = createServices(context);
  running = services;
  const panels = new PanelHost(services);
  const { runs, runList, pages, log } = services;

  const commands: Record<string, Command> = {
    calibrateRouter: (argument) => wizardCommand("calibrate", argument, services),
    compressExperts: (argument) => wizardCommand("compress", argument, services),
    profileRouting: (argument) => wizardCommand("profile", argument, services),
    evaluateCheckpoint: (argument) => wizardCommand("evaluate", argument, services),
    compareCheckpoints: (argument) => wizardCommand("compare", argument, services),
    compareMethods: (argument) => compareMethods(argument, services),
    importTrace: (argument) => importTrace(argument, services),
    openRouting: (argument) => openPanel("routing", argument, services, panels),
    openDivergence: (argument) => openPanel("divergence", argument, services, panels),
    openSimilarity: (argument) => openPanel("similarity", argument, services, panels),
    openCalibration: (argument) => openPanel("calibration", argument, services, panels),
    openTradeOff: (argument) => openPanel("tradeOff", argument, services, panels),
    runRecipe: (argument) => runRecipe(argument, services),
    checkRecipe: (argument) => checkRecipe(argument, services),
    resumeRun: (argument) => resumeRun(argument, services),
    cancelRun: (argument) => cancelRun(argument, services),
    openReport: (argument) => openReport(argument, services),
    openRunFolder: (argument) => openRunFolder(argument, services),
    exportData: (argument) => exportData(argument, services),
    openSampleCheckpoint: () => openSampleCheckpoint(services),
    showEngineLog: () => log.show(),
    filterHubModels: () => services.checkpoints.askFilter(),
    refreshCheckpoints: () => services.checkpoints.refresh(),
    refreshRuns: () => runList.refresh(),
  };

  runs.onMetrics((runDirectory, line) => pages.metrics(runDirectory, line));
  runs.onStage((runDirectory) => {
    runList.refresh();
    pages.runChanged(runDirectory);
  });

  const trees = [
    vscode.window.createTreeView("reroute.checkpoints", {
      treeDataProvider: new CheckpointsTree(services.checkpoints),
    }),
    vscode.window.createTreeView("reroute.runs", { treeDataProvider: new RunsTree(runList, runs) }),
  ];
  for (const tree of trees) tellRestrictedMode(tree);

  context.subscriptions.push(
    log,
    services.checkpoints,
    runList,
    ...Object.entries(commands).map(([name, command]) =>
      vscode.commands.registerCommand(`reroute.${name}`, async (argument: unknown) => {
        try {
          if (await refusedInRestrictedMode(name)) return;
          await command(argument);
        } catch (error) {
          showFailure(error, log);
        }
      }),
    ),
    ...trees,
    vscode.window.registerWebviewViewProvider("reroute.overview", new OverviewView(services)),
    vscode.window.registerCustomEditorProvider(SafetensorsEditor.viewType, new SafetensorsEditor(services), {
      supportsMultipleEditorsPerDocument: true,
    }),
    panels.registerSerializers(),
    registerRecipeDocuments(services),
    registerLanguageModelTools(services),
    showRunsInStatusBar(runs),
    vscode.workspace.onDidChangeWorkspaceFolders(() => runList.watch()),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("reroute.colourScale")) pages.settingsChanged();
      if (change.affectsConfiguration("reroute.onWindowClose")) tellDisconnectPolicy(services);
      if (change.affectsConfiguration("reroute.runFolder")) runList.watch();
    }),
  );
  log.info(`activated in ${(performance.now() - begun).toFixed(1)} ms`);
  void offerResume(services);
}

/** VS Code gives a few seconds: the engine is told by the closing channel; runs go on where the setting says so. */
export function deactivate(): void {
  const linger = readSettings().onWindowClose === "continue" && (running?.runs.unfinished().length ?? 0) > 0;
  running?.engine.dispose(linger);
  running = null;
}

function createServices(context: vscode.ExtensionContext): Services {
  const log = vscode.window.createOutputChannel("Reroute", { log: true });
  const engine = new EngineClient({
    script: context.asAbsolutePath("dist/engine.js"),
    host: `vscode ${vscode.version}`,
    idleMs: engineIdleMs,
    log: (level, message) => log[level === "warning" ? "warn" : level](message),
  });
  engine.onEvent((event) => {
    if (event.name === "log") log[event.body.level === "warning" ? "warn" : event.body.level](event.body.message);
  });
  return {
    context,
    log,
    engine,
    runs: new RunTracker(engine),
    runList: new RunList({ context, engine, log }),
    checkpoints: new CheckpointFinder(engine),
    pages: new PageHub(),
  };
}
