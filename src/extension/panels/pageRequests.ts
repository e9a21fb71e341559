import path from "node:path";
import * as vscode from "vscode";
import { RerouteError } from "../../protocol/errors";
import type { PageRequestHandlers, PageSource } from "../../protocol/pageMessages";
import { runFiles } from "../../protocol/run";
import { changeCheckpoints } from "../playground/changeCheckpoints";
import type { Playground } from "../playground/playground";
import type { Services } from "../services";
import { editPlanDocument, planAction } from "../editors/planDocument";
import { saveWithDialog } from "../exports/saveWithDialog";
import { refusedInRestrictedMode } from "../trust";

const extensions = {
  "image/png": "png",
  "text/csv": "csv",
  "application/json": "json",
  "text/markdown": "md",
} as const;

/** What a page may ask for. It never names a path: files are those of the run it shows, tensors those of its table. */
export function pageRequestHandlers(
  sourceNow: () => PageSource,
  services: Services,
  knowsTensor: (name: string) => boolean,
  show: (source: PageSource) => void,
  reload: () => void,
  playground: Playground,
): PageRequestHandlers {
  const { engine } = services;
  const known = (runDirectory: string): string => {
    if (services.runList.knows(runDirectory) || services.runs.get(runDirectory)) return runDirectory;
    throw new RerouteError("arguments/invalid", `The page named a run that is not known here: ${runDirectory}`);
  };
  return {
    similarity: async ({ layer, metric, runDirectory }) => {
      const own = runOf(sourceNow());
      const asked = runDirectory === undefined ? own : known(runDirectory);
      return engine.request("panel/similarity", { runDirectory: asked, layer, metric });
    },

    showRuns: async ({ runDirectory, compareWith }) => {
      runOf(sourceNow());
      const others = compareWith.map(known).filter((one) => one !== runDirectory);
      show({
        kind: "run",
        runDirectory: known(runDirectory),
        ...(others.length > 0 ? { compareWith: others } : {}),
      });
      return null;
    },

    tensorStatistics: async ({ tensor }) => {
      const source = sourceNow();
      if (source.kind !== "file" || !knowsTensor(tensor)) {
        throw new RerouteError("arguments/invalid", "The page asked for a tensor that is not in its table");
      }
      return engine.request("checkpoint/tensorStatistics", { path: vscode.Uri.parse(source.uri).fsPath, tensor });
    },

    expert: async (request) => engine.request("panel/expert", { runDirectory: runOf(sourceNow()), ...request }),

    text: async ({ layer }) => engine.request("panel/text", { runDirectory: runOf(sourceNow()), layer }),

    playgroundStart: async (question) => {
      // A panel may have been restored into Restricted Mode.
      if (await refusedInRestrictedMode("openPlayground")) return null;
      await playground.start(question);
      return null;
    },

    playgroundCancel: async () => {
      playground.cancel();
      return null;
    },

    playgroundLayer: async ({ layer }) => playground.layer(layer),

    playgroundChange: async (change) => {
      const source = sourceNow();
      const checkpoints =
        source.kind === "checkpoints" ? await changeCheckpoints(source.checkpoints, change, services) : null;
      if (checkpoints !== null) show({ kind: "checkpoints", checkpoints });
      return null;
    },

    copy: async ({ text }) => {
      await vscode.env.clipboard.writeText(text);
      return null;
    },

    planEdit: async ({ edit }) => editPlanDocument(planOf(sourceNow()), edit, services),

    planAction: async ({ action }) => {
      if (await planAction(planOf(sourceNow()), action, services)) reload();
      return null;
    },

    save: async ({ fileName, mime, encoding, content }) => ({
      saved: await saveWithDialog(fileName, extensions[mime], Buffer.from(content, encoding)),
    }),

    openFile: async ({ file }) => {
      const uri = vscode.Uri.file(path.join(runOf(sourceNow()), runFiles[file]));
      await vscode.window.showTextDocument(uri, { preview: true });
      return null;
    },

    command: async ({ command, runDirectory }) => {
      const source = sourceNow();
      const named = runDirectory === null ? undefined : known(runDirectory);
      const run = named ?? (source.kind === "run" ? source.runDirectory : undefined);
      // Not awaited: a calibration asked for by a button takes hours, and the page only wants to know it was heard.
      void vscode.commands.executeCommand(`reroute.${command}`, run === undefined ? undefined : { runDirectory: run });
      return null;
    },
  };
}

function planOf(source: PageSource): vscode.Uri {
  if (source.kind === "file") return vscode.Uri.parse(source.uri);
  throw new RerouteError("arguments/invalid", `This page shows ${source.kind}, not a plan`);
}

function runOf(source: PageSource): string {
  if (source.kind === "run") return source.runDirectory;
  throw new RerouteError("arguments/invalid", `This page shows ${source.kind}, not a run`);
}
