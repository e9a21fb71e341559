/**
 * The engine process, forked by the extension host with an IPC channel. Loads nothing heavy by itself: onnxruntime
 * comes in with the first request that needs it, so inspection works where it cannot load.
 */
import { createMessageConnection, IPCMessageReader, IPCMessageWriter } from "vscode-jsonrpc/node";
import { connectHandlers, type DisconnectPolicy } from "./handlers";
import { liveServices } from "./liveServices";
import { EngineRpc } from "./rpc";
import { serveEngineThread } from "./partThreads";
import { isPartThread } from "./runtime/sideBySide/partThread";
import { exitAtOnce, setThreadProgram } from "./runtime/sideBySide/partThreads";
import { engineVersion } from "../protocol/version";

if (isPartThread()) void serveEngineThread();
else serveHost();

function serveHost(): void {
  setThreadProgram(__filename);

  const connection = createMessageConnection(new IPCMessageReader(process), new IPCMessageWriter(process));
  const policy: DisconnectPolicy = { behaviour: "exit" };
  const jobs = connectHandlers(new EngineRpc(connection), liveServices(), engineVersion, policy);

  // After the host is gone its end of these pipes is closed; a late line must not end a run that goes on.
  process.stdout.on("error", () => undefined);
  process.stderr.on("error", () => undefined);

  process.on("disconnect", () => {
    if (policy.behaviour === "exit") exitAtOnce(0, "SIGTERM");
    void jobs.idle().then(() => process.exit(0));
  });

  connection.listen();
}
