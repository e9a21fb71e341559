import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { temporaryFolder } from "./temporaryFolder";

/** Whether a Redis server is installed here; .ci/run installs Debian's. */
export const hasRedis = spawnSync("redis-server", ["--version"]).status === 0;

/** A Redis server of a test's own, which keeps what it was told through a kill. */
export class RedisServer {
  #child: ChildProcess | null = null;

  private constructor(
    readonly port: number,
    readonly directory: string,
    readonly password: string | null,
  ) {}

  /** @param password what clients must say */
  static async start(password: string | null = null): Promise<RedisServer> {
    const server = new RedisServer(await freePort(), temporaryFolder(), password);
    await server.restart();
    return server;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  async restart(): Promise<void> {
    const args = ["--bind", "127.0.0.1", "--port", String(this.port), "--dir", this.directory, "--save", ""];
    const secret = this.password === null ? [] : ["--requirepass", this.password];
    this.#child = spawn("redis-server", [
      ...args,
      ...secret,
      "--appendonly",
      "yes",
      "--maxmemory-policy",
      "noeviction",
    ]);
    for await (const line of this.#child.stdout!) if (String(line).includes("Ready to accept connections")) break;
    this.#child.stdout!.resume();
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    const child = this.#child!;
    child.kill("SIGKILL");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
