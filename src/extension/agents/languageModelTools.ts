import { readFile } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import { agentTools, type AgentHost } from "../../protocol/agentTools";
import { errorCodeOf, RerouteError } from "../../protocol/errors";
import { parseRecipe } from "../recipes/recipeProblems";
import { startInBackground } from "../runs/runInBackground";
import type { Services } from "../services";

/** Offers the agents' tools to language models in this window; what starts work asks first, and needs a trusted workspace. */
export function registerLanguageModelTools(services: Services): vscode.Disposable {
  const host = extensionHost(services);
  const registered = agentTools.map(({ name, title, starts, call }) =>
    vscode.lm.registerTool<Record<string, unknown>>(`reroute_${name}`, {
      prepareInvocation: ({ input }) => ({
        invocationMessage: title,
        ...(starts
          ? {
              confirmationMessages: {
                title,
                message: vscode.l10n.t(
                  "This runs {0}. It may take hours, and writes its run folder and output.",
                  String(input["recipe"]),
                ),
              },
            }
          : {}),
      }),
      invoke: async ({ input }) => {
        if (starts && !vscode.workspace.isTrusted)
          throw new RerouteError(
            "arguments/invalid",
            vscode.l10n.t("Trust this workspace first: runs execute and write."),
          );
        try {
          return textResult(JSON.stringify(await call(host, input)));
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error);
          return textResult(`${errorCodeOf(error)}: ${message}`);
        }
      },
    }),
  );
  return vscode.Disposable.from(...registered);
}

function textResult(text: string): vscode.LanguageModelToolResult {
  return new vscode.LanguageModelToolResult([new vscode.LanguageModelTextPart(text)]);
}

function extensionHost(services: Services): AgentHost {
  const read: AgentHost["readRecipe"] = async (file) => {
    const { recipe, problems } = parseRecipe(await readFile(file, "utf8"));
    if (!recipe) throw new RerouteError("recipe/invalid", problems[0]?.message ?? file);
    return { recipe, baseFolder: path.dirname(file), runsFolder: services.runList.folder };
  };
  return {
    begun: new Set(),
    ask: (method, params) => services.engine.request(method, params),
    readRecipe: read,
    start: async (file) => {
      const { recipe, baseFolder } = await read(file);
      return startInBackground(recipe, baseFolder, services);
    },
  };
}
