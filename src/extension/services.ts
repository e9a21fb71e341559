import * as vscode from "vscode";
import type { CheckpointFinder } from "./checkpoints/checkpointFinder";
import type { EngineClient } from "./engine/client";
import type { PageHub } from "./panels/pageHub";
import type { RunList } from "./runs/runList";
import type { RunTracker } from "./runs/runTracker";

/** What commands, trees and panels share. Made once, in extension.ts. */
export interface Services {
  context: vscode.ExtensionContext;
  log: vscode.LogOutputChannel;
  engine: EngineClient;
  runs: RunTracker;
  runList: RunList;
  checkpoints: CheckpointFinder;
  pages: PageHub;
}
