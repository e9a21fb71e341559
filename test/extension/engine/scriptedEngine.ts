/** A program for the tests to fork: the real connection and handlers over services that do as they are told. */
import { createMessageConnection, IPCMessageReader, IPCMessageWriter } from "vscode-jsonrpc/node";
import { connectHandlers, type DisconnectPolicy } from "../../../src/engine/handlers";
import { EngineRpc } from "../../../src/engine/rpc";
import { RerouteError } from "../../../src/protocol/errors";
import { scriptedServices } from "./scriptedServices";

const mode = process.env["SCRIPTED_ENGINE"] ?? "";
if (mode === "dies-at-start") {
  process.stderr.write("libonnxruntime.so.1: cannot open shared object file\n");
  process.exit(3);
}
const connection = createMessageConnection(new IPCMessageReader(process), new IPCMessageWriter(process));
const rpc = new EngineRpc(connection);
const policy: DisconnectPolicy = { behaviour: "exit" };
connectHandlers(rpc, scriptedServices(policy), "0.0.1-test", policy);
if (mode === "other-version") {
  rpc.answer("initialize", async () => {
    throw new RerouteError("engine/version", "speaks protocol version 99");
  });
}
process.on("disconnect", () => process.exit(0));
// "silent": a process that never gets to listening.
if (mode !== "silent") connection.listen();
else setInterval(() => undefined, 1000);
