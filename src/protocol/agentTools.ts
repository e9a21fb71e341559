/**
 * What an agent may ask of Reroute: one table for VS Code's language-model tools and for the MCP server (`reroute mcp`). Each
 * tool is a few engine requests; answers are small enough for a model's context, which whole panels are not.
 */
import { z } from "zod";
import type { EngineParams, EngineResult, ServiceMethod } from "./engine";
import { errorCodeOf, RerouteError, type ErrorCode } from "./errors";
import type { RoutingPanelData } from "./panels";
import type { Recipe } from "./recipe";
import type { Preflight, RunFile } from "./run";

/** What a face gives the tools. */
export interface AgentHost {
  ask: <M extends ServiceMethod>(method: M, params: EngineParams<M>) => Promise<EngineResult<M>>;
  /** @throws recipe/invalid */
  readRecipe: (file: string) => Promise<{ recipe: Recipe; baseFolder: string; runsFolder: string }>;
  /** Begins or continues a recipe's run, which outlives the call. Gives its run folder. */
  start: (recipeFile: string) => Promise<string>;
  /** Run folders that runs were begun in; they are checked once more before they write the first record. */
  begun: Set<string>;
}

export interface AgentTool {
  name: string;
  title: string;
  /** For the model: when to use the tool, and what comes back. */
  description: string;
  input: z.ZodObject;
  /** Whether it writes files and works for long: asked of the user first, and not offered in Restricted Mode. */
  starts: boolean;
  call: (host: AgentHost, input: unknown) => Promise<unknown>;
}

const absolute = (what: string) => z.string().describe(`Absolute path of ${what}`);
const checkpoint = z.object({ path: absolute("a checkpoint folder, a .safetensors file or a .gguf file") });
const recipe = z.object({ recipe: absolute("a recipe file, *.reroute.json") });
const run = z.object({ runDirectory: absolute("a run folder, as list_runs and start_run give it") });
const runs = z.object({ runsFolder: absolute("a folder of run folders, usually <workspace>/.reroute/runs") });
const panel = run.extend({
  panel: z.enum(["routing", "divergence", "calibration", "distillation"]).describe("Which of the run's panels"),
});

/** Ties a tool's schema to its function. */
function tool<S extends z.ZodObject>(
  row: Omit<AgentTool, "input" | "call"> & {
    input: S;
    call: (host: AgentHost, input: z.infer<S>) => Promise<unknown>;
  },
): AgentTool {
  return { ...row, call: (host, input) => row.call(host, row.input.parse(input)) };
}

export const agentTools: readonly AgentTool[] = [
  tool({
    name: "inspect_checkpoint",
    title: "Inspect a checkpoint",
    description:
      "Reads headers and config.json of a Mixture-of-Experts (or dense) checkpoint: family, layers, experts, experts a token, parameters, dtypes, problems. Reads no weights.",
    input: checkpoint,
    starts: false,
    call: ({ ask }, { path }) => ask("checkpoint/inspect", { path }),
  }),
  tool({
    name: "check_recipe",
    title: "Check a recipe",
    description:
      "The pre-flight of a recipe: size before and after, time and peak memory of each stage, disk, warnings, and what would be refused with its error code. Writes nothing.",
    input: recipe,
    starts: false,
    call: async (host, { recipe: file }) => preflightOf(host, file),
  }),
  tool({
    name: "start_run",
    title: "Start a run",
    description:
      "Begins, or continues, a recipe's run: profile, compress, calibrate the routers, evaluate, report. May take hours; returns the run folder at once. Ask run_status how far it is.",
    input: recipe,
    starts: true,
    call: async (host, { recipe: file }) => {
      const { refusals, seconds } = await preflightOf(host, file);
      const first = refusals[0];
      if (first) throw new RerouteError(first.code as ErrorCode, first.message);
      const runDirectory = await host.start(file);
      host.begun.add(runDirectory);
      return { runDirectory, predictedSeconds: seconds };
    },
  }),
  tool({
    name: "list_runs",
    title: "List runs",
    description: "The runs below a folder: name, state, method, verdict, KL to the teacher before and after.",
    input: runs,
    starts: false,
    call: ({ ask }, input) => ask("run/list", input),
  }),
  tool({
    name: "run_status",
    title: "Status of a run",
    description:
      "State, seconds and error of each stage of a run; no stages while a run that was just begun is checked.",
    input: run,
    starts: false,
    call: async ({ ask, begun }, input) => {
      try {
        return statusOf((await ask("run/read", input)).run);
      } catch (error) {
        if (errorCodeOf(error) !== "run/invalid" || !begun.has(input.runDirectory)) throw error;
        return { runDirectory: input.runDirectory, stages: [] };
      }
    },
  }),
  tool({
    name: "read_evaluation",
    title: "Read a run's evaluation",
    description:
      "Held-out quality of teacher, student before and after calibration: loss, perplexity, KL to the teacher with 95 % intervals, top-1 agreement, cost, and the verdict with its interval. Null before the run was evaluated.",
    input: run,
    starts: false,
    call: async ({ ask }, input) => evaluationOf((await ask("run/read", input)).evaluation),
  }),
  tool({
    name: "read_panel",
    title: "Read a run's panel",
    description:
      "A panel by layer: routing (load balance, never-used and most used experts), divergence (routing KL, L1, top-k overlap before and after), calibration (held-out KL by update, best step, verdict) or distillation (gate mass, quality by active experts and by draws, KL of trained routers). Null where the run has no such data yet.",
    input: panel,
    starts: false,
    call: async ({ ask }, { panel: name, runDirectory }) => {
      switch (name) {
        case "routing":
          return routingOf(await ask("panel/routing", { runDirectory }));
        case "divergence": {
          const data = await ask("panel/divergence", { runDirectory });
          return data && { ...data, before: data.before?.byLayer ?? null, after: data.after?.byLayer ?? null };
        }
        case "distillation":
          return ask("panel/distillation", { runDirectory });
        case "calibration": {
          const data = await ask("panel/calibration", { runDirectory });
          return data && { ...data, updates: data.updates.length, latest: data.updates.at(-1) ?? null };
        }
      }
    },
  }),
];

async function preflightOf(host: AgentHost, file: string): Promise<Preflight> {
  return host.ask("recipe/preflight", await host.readRecipe(file));
}

function statusOf({ name, createdAt, stages, recipe: { teacher, output } }: RunFile): unknown {
  return {
    name,
    createdAt,
    teacher,
    output,
    stages: stages.map(({ id, state, seconds, error }) => ({ id, state, seconds, error })),
  };
}

/** Without the numbers of single sequences and experts, which fill pages. */
function evaluationOf(evaluation: EngineResult<"run/read">["evaluation"]): unknown {
  if (!evaluation) return null;
  const models = (["teacher", "before", "after"] as const).map((name) => {
    const model = evaluation[name];
    if (!model) return [name, null];
    const { perSequence: _sequences, expertMapping: _mapping, routing, ...rest } = model;
    return [name, { ...rest, routing: routing?.map(({ klByExpert: _, ...layer }) => layer) ?? null }];
  });
  return { data: evaluation.data, ...Object.fromEntries(models), comparison: evaluation.comparison };
}

/** Experts named for each layer. */
const numMostUsed = 5;

function routingOf(data: RoutingPanelData | null): unknown {
  const all = data?.byDomain[""];
  if (!data || !all) return null;
  const layers = all.layers.map((layer, row) => {
    const shares = all.utilisation.values.slice(row * data.numExperts, (row + 1) * data.numExperts);
    const mostUsed = shares
      .map((share, expert) => ({ expert, share: share ?? 0 }))
      .sort((a, b) => b.share - a.share || a.expert - b.expert)
      .slice(0, numMostUsed);
    return { ...layer, mostUsed };
  });
  const { checkpoint: path, tokens, numExperts, numExpertsPerToken, domains, neverUsed } = data;
  return { checkpoint: path, tokens, numExperts, numExpertsPerToken, domains, neverUsed: neverUsed.length, layers };
}
