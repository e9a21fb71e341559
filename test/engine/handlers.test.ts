import { PassThrough } from "node:stream";
import { createMessageConnection, StreamMessageReader, StreamMessageWriter } from "vscode-jsonrpc/node";
import { describe, expect, it } from "vitest";
import { connectHandlers } from "../../src/engine/handlers";
import { EngineRpc } from "../../src/engine/rpc";
import { protocolVersion, type EngineInfo } from "../../src/protocol/engine";
import { scriptedServices } from "../extension/engine/scriptedServices";

/** The engine's handlers at the other end of a pair of streams. */
function connect() {
  const [toEngine, toHost] = [new PassThrough(), new PassThrough()];
  const engine = createMessageConnection(new StreamMessageReader(toEngine), new StreamMessageWriter(toHost));
  const host = createMessageConnection(new StreamMessageReader(toHost), new StreamMessageWriter(toEngine));
  connectHandlers(new EngineRpc(engine), scriptedServices(), "1.2.3", { behaviour: "exit" });
  engine.listen();
  host.listen();
  return host;
}

describe("handshake", () => {
  it("answers with the engine's version and process", async () => {
    const info = await connect().sendRequest<EngineInfo>("initialize", { protocolVersion, host: "test" });
    expect(info).toEqual({ protocolVersion, version: "1.2.3", node: process.version, pid: process.pid });
  });

  it.each([protocolVersion - 1, protocolVersion + 1])(
    "refuses a host of version %i and everything after",
    async (version) => {
      const host = connect();
      await expect(
        host.sendRequest("initialize", { protocolVersion: version, host: "old window" }),
      ).rejects.toMatchObject({
        message: expect.stringMatching(`version ${protocolVersion}, the host old window speaks ${version}`) as string,
        data: { code: "engine/version" },
      });
      await expect(host.sendRequest("checkpoint/inspect", { path: "x" })).rejects.toMatchObject({
        data: { code: "engine/version" },
      });
    },
  );
});
