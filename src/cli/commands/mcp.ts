import { spawn } from "node:child_process";
import path from "node:path";
import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js";
import type { Command } from "commander";
import { liveServices } from "../../engine/liveServices";
import { agentTools, type AgentHost } from "../../protocol/agentTools";
import { errorCodeOf } from "../../protocol/errors";
import { engineVersion } from "../../protocol/version";
import type { CliIo } from "../io";
import { readRecipe } from "./run";

/** `reroute mcp`: the agents' tools over the Model Context Protocol, on stdin and stdout. */
export function addMcp(program: Command, io: CliIo): void {
  program
    .command("mcp")
    .description("serve inspection, pre-flight, runs and evaluations to agents over the Model Context Protocol (stdio)")
    .option("--read-only", "offer no tool that starts work or writes")
    .action(async ({ readOnly }: { readOnly?: boolean }) => {
      const server = agentServer(commandLineHost(io), readOnly ?? false);
      const closed = new Promise<void>((resolve) => {
        server.server.onclose = resolve;
        io.signal.addEventListener("abort", () => void server.close(), { once: true });
        // A client that goes away closes our input.
        process.stdin.once("end", () => void server.close());
      });
      await server.connect(new StdioServerTransport());
      await closed;
    });
}

/** A server with every tool of the table; an error answers with its stable code, never as a crash. */
export function agentServer(host: AgentHost, readOnly: boolean): McpServer {
  const server = new McpServer({ name: "reroute", version: engineVersion });
  for (const { name, title, description, input, starts, call } of agentTools) {
    if (starts && readOnly) continue;
    const annotations = {
      title,
      readOnlyHint: !starts,
      destructiveHint: false,
      idempotentHint: true,
      openWorldHint: false,
    };
    server.registerTool(name, { title, description, inputSchema: input.shape, annotations }, async (given) => {
      try {
        return { content: [{ type: "text", text: JSON.stringify(await call(host, given)) }] };
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        return { isError: true, content: [{ type: "text", text: `${errorCodeOf(error)}: ${message}` }] };
      }
    });
  }
  return server;
}

function commandLineHost(io: CliIo): AgentHost {
  const services = liveServices();
  return {
    begun: new Set(),
    ask: (method, params) => services[method](params, { signal: io.signal, emit: () => undefined }),
    readRecipe: async (file) => {
      const baseFolder = path.dirname(file);
      return { recipe: await readRecipe(file), baseFolder, runsFolder: path.join(baseFolder, ".reroute", "runs") };
    },
    start: async (file) => {
      const runDirectory = path.join(
        path.dirname(file),
        ".reroute",
        "runs",
        path.basename(file).replace(/(\.reroute)?\.json$/, ""),
      );
      // A process of its own: it goes on when the agent's session ends, and answers here do not wait for it.
      const child = spawn(process.execPath, [process.argv[1]!, "run", file, "--run", runDirectory], {
        detached: true,
        stdio: "ignore",
      });
      child.unref();
      await new Promise<void>((resolve, reject) => {
        child.once("spawn", resolve);
        child.once("error", reject);
      });
      return runDirectory;
    },
  };
}
