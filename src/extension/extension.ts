/** The extension's wiring: what exists, and which function each command, view and editor is. */
import * as vscode from "vscode";
import { CheckpointFinder } from "./checkpoints/checkpointFinder";
import { CheckpointsTree } from "./checkpoints/checkpointsTree";
import { copyStartCommand } from "./commands/copyStartCommand";
import { compareMethods } from "./commands/compareCommand";
import { exportData } from "./commands/exportCommand";
import { compressWithPlan, openPlan } from "./commands/planCommands";
import { openPanel } from "./commands/panelCommands";
import { checkRecipe, newRecipe, runRecipe } from "./commands/recipeCommands";
import { compareRuns } from "./commands/compareRuns";
import { openRun } from "./commands/openRun";
import { cancelRun, openRunFolder, resumeRunCommand } from "./commands/runCommands";
import { openReport, saveReport } from "./commands/reportCommands";
import { copyCommandLine, deleteRun, duplicateRun, renameRun, runAgain, tagRun } from "./commands/runEdits";
import { openSampleCheckpoint } from "./commands/sampleCommand";
import { pickDocumentation, reportIssue } from "./commands/supportCommands";
import { exportGgufCommand } from "./commands/exportGguf";
import { importTraceCommand } from "./commands/traceCommand";
import { wizardCommand } from "./commands/wizardCommands";
import { askForTensorTable } from "./editors/askForTensorTable";
import { planViewType } from "./editors/planDocument";
import { PlanEditor } from "./editors/planEditor";
import { SafetensorsEditor } from "./editors/safetensorsEditor";
import { EngineClient } from "./engine/client";
import { setDocumentationFolder, showFailure } from "./failure";
import { OverviewView } from "./overview/overviewView";
import { PageHub } from "./panels/pageHub";
import { PanelHost } from "./panels/panelHost";
import { openPlayground } from "./playground/openPlayground";
import { registerRecipeDocuments } from "./recipes/recipeDocuments";
import { registerRecipeTasks } from "./recipes/recipeTasks";
import { openReportInBrowser } from "./reports/reportPage";
import { offerResume } from "./runs/offerResume";
import { tellDisconnectPolicy } from "./runs/runInBackground";
import { metricsSoFar, RunFollower } from "./runs/runFollower";
import { RunList } from "./runs/runList";
import { showRunningRuns } from "./runs/runStatusBar";
import { RunsTree } from "./runs/runsTree";
import { tellWalkthrough } from "./runs/walkthrough";
import { registerLanguageModelTools } from "./agents/languageModelTools";
import { RunTracker } from "./runs/runTracker";
import type { Services } from "./services";
import { LinkHandler } from "./support/uriHandler";
import { refusedInRestrictedMode, tellRestrictedMode } from "./trust";
import { readSettings } from "./settings";
import { setQueuePassword, tellQueue } from "./workers/queueChoice";
import { WorkersTree } from "./workers/workersTree";

/** `selected`: all items of a tree that are selected, of which `argument` is one. */
type Command = (argument: unknown, selected: unknown) => unknown;

/** An engine without work is ended after this long: its memory goes back, and the next request starts one in 100 ms. */
const engineIdleMs = 5 * 60_000;

let running: Services | null = null;

export function activate(context: vscode.ExtensionContext): void {
  const begun = performance.now();
  const services = createServices(context);
  running = services;
  const panels = new PanelHost(services);
  const { runs, runList, pages, log } = services;
  const workers = new WorkersTree(services);

  const commands: Record<string, Command> = {
    calibrateRouter: (argument) => wizardCommand("calibrate", argument, services),
    distil: (argument) => wizardCommand("distil", argument, services),
    compressExperts: (argument) => wizardCommand("compress", argument, services),
    profileRouting: (argument) => wizardCommand("profile", argument, services),
    evaluateCheckpoint: (argument) => wizardCommand("evaluate", argument, services),
    compareCheckpoints: (argument) => wizardCommand("compare", argument, services),
    compareMethods: (argument) => compareMethods(argument, services),
    exportGguf: (argument) => exportGgufCommand(argument, services),
    importTrace: (argument) => importTraceCommand(argument, services),
    openRouting: (argument) => openPanel("routing", argument, services, panels),
    openDivergence: (argument) => openPanel("divergence", argument, services, panels),
    openSimilarity: (argument) => openPanel("similarity", argument, services, panels),
    openCalibration: (argument) => openPanel("calibration", argument, services, panels),
    openText: (argument) => openPanel("text", argument, services, panels),
    openPlan: (argument) => openPlan(argument, services),
    compressWithPlan: (argument) => compressWithPlan(argument, services),
    openDistillation: (argument) => openPanel("distillation", argument, services, panels),
    openPlayground: (argument) => openPlayground(argument, services, panels),
    openTradeOff: (argument) => openPanel("tradeOff", argument, services, panels),
    newRecipe: (argument) => newRecipe(argument),
    runRecipe: (argument) => runRecipe(argument, services),
    checkRecipe: (argument) => checkRecipe(argument, services),
    resumeRun: (argument) => resumeRunCommand(argument, services),
    cancelRun: (argument) => cancelRun(argument, services),
    openRun: (argument) => openRun(argument, services),
    renameRun: (argument) => renameRun(argument, services),
    tagRun: (argument) => tagRun(argument, services),
    deleteRun: (argument, selected) => deleteRun(argument, selected, services),
    duplicateRun: (argument) => duplicateRun(argument, services),
    runAgain: (argument) => runAgain(argument, services),
    copyCommandLine: (argument) => copyCommandLine(argument, services),
    compareRuns: (argument, selected) => compareRuns(argument, selected, services, panels),
    openReport: (argument) => openReport(argument, services),
    saveReport: (argument) => saveReport(argument, services),
    openReportInBrowser: () => openReportInBrowser(),
    openRunFolder: (argument) => openRunFolder(argument, services),
    exportData: (argument) => exportData(argument, services),
    openSampleCheckpoint: () => openSampleCheckpoint(services),
    showEngineLog: () => log.show(),
    reportIssue: () => reportIssue(services),
    showDocumentation: () => pickDocumentation(services),
    filterHubModels: () => services.checkpoints.askFilter(),
    refreshCheckpoints: () => services.checkpoints.refresh(),
    refreshRuns: () => runList.refresh(),
    filterRuns: () => runList.askFilter(),
    openWorkers: (argument) => openPanel("workers", argument, services, panels),
    copyStartCommand: () => copyStartCommand(services),
    setQueuePassword: async () => {
      await setQueuePassword(context);
      workers.refresh();
    },
    refreshWorkers: () => workers.refresh(),
  };

  runs.onMetrics((runDirectory, line) => pages.metrics(runDirectory, line));
  runs.onStage((runDirectory) => {
    runList.refresh();
    pages.runChanged(runDirectory);
  });

  const runsView = vscode.window.createTreeView("reroute.runs", {
    treeDataProvider: new RunsTree(runList, runs),
    canSelectMany: true,
    showCollapseAll: true,
  });
  const workersView = vscode.window.createTreeView("reroute.workers", { treeDataProvider: workers });
  workers.attach(workersView);
  tellQueue();
  const checkpointsTree = new CheckpointsTree(services.checkpoints);
  const checkpointsView = vscode.window.createTreeView("reroute.checkpoints", { treeDataProvider: checkpointsTree });
  const trees: vscode.TreeView<unknown>[] = [checkpointsView, runsView, workersView];
  for (const tree of trees) tellRestrictedMode(tree);
  const follower = new RunFollower(runs);
  runList.onDidRead((listed) => {
    follower.watch(listed);
    tellWalkthrough(listed.runs);
  });

  context.subscriptions.push(
    log,
    services.checkpoints,
    runList,
    workers,
    ...Object.entries(commands).map(([name, command]) =>
      vscode.commands.registerCommand(`reroute.${name}`, async (argument: unknown, selected: unknown) => {
        try {
          if (await refusedInRestrictedMode(name)) return;
          // A key pressed in the tree names nothing: what is selected there is meant.
          const { selection } = runsView;
          await (isFromTree(argument) ? command(selection[0], selection) : command(argument, selected));
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
    vscode.window.registerCustomEditorProvider(planViewType, new PlanEditor(services)),
    panels.registerSerializers(),
    registerRecipeDocuments(services),
    registerRecipeTasks(context),
    vscode.window.registerUriHandler(new LinkHandler(services, checkpointsTree, checkpointsView)),
    askForTensorTable(context),
    registerLanguageModelTools(services),
    showRunningRuns(runs, runsView),
    follower,
    vscode.workspace.onDidChangeWorkspaceFolders(() => runList.watch()),
    vscode.workspace.onDidChangeConfiguration((change) => {
      if (change.affectsConfiguration("reroute.colourScale")) pages.settingsChanged();
      if (change.affectsConfiguration("reroute.onWindowClose")) tellDisconnectPolicy(services);
      if (change.affectsConfiguration("reroute.runFolder")) runList.watch();
      if (change.affectsConfiguration("reroute.queue") || change.affectsConfiguration("reroute.allowInsecureQueue")) {
        tellQueue();
        workers.refresh();
      }
    }),
  );
  log.info(`activated in ${(performance.now() - begun).toFixed(1)} ms`);
  void offerResume(services);
  void services.checkpoints.list();
}

function isFromTree(argument: unknown): boolean {
  return typeof argument === "object" && argument !== null && "fromTree" in argument;
}

/** VS Code gives a few seconds: the engine is told by the closing channel; runs go on where the setting says so. */
export function deactivate(): void {
  const linger = readSettings().onWindowClose === "continue" && (running?.runs.unfinished().length ?? 0) > 0;
  running?.engine.dispose(linger);
  running = null;
}

function createServices(context: vscode.ExtensionContext): Services {
  setDocumentationFolder(vscode.Uri.joinPath(context.extensionUri, "docs"));
  const log = vscode.window.createOutputChannel("Reroute", { log: true });
  const engine = new EngineClient({
    script: context.asAbsolutePath("dist/engine.js"),
    host: `vscode ${vscode.version}`,
    idleMs: engineIdleMs,
    onnxruntimePath: () => readSettings().onnxruntimePath,
    log: (level, message) => log[level === "warning" ? "warn" : level](message),
  });
  engine.onEvent((event) => {
    if (event.name === "log") log[event.body.level === "warning" ? "warn" : event.body.level](event.body.message);
  });
  return {
    context,
    log,
    engine,
    runs: new RunTracker(engine, metricsSoFar),
    runList: new RunList({ context, engine, log }),
    checkpoints: new CheckpointFinder(engine),
    pages: new PageHub(),
  };
}
