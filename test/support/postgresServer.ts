import { execFileSync, spawn, spawnSync, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { freePort } from "./redisServer";
import { temporaryFolder } from "./temporaryFolder";

/** Where Debian has the programs of a PostgreSQL server, of the newest version that is there; null: nowhere. */
const programs = (() => {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).sort((a, b) => Number(b) - Number(a)) : [];
  const found = versions.map((version) => path.join(root, version, "bin")).find((bin) => existsSync(`${bin}/initdb`));
  return found ?? null;
})();

/** As root it has to be another user that the server runs as. */
const isRoot = process.getuid?.() === 0;
const owner = isRoot ? idsOf("postgres") : null;

/** Whether a PostgreSQL server can be started here; .ci/run installs Debian's. */
export const hasPostgres = programs !== null && (!isRoot || owner !== null);

/** A PostgreSQL server of a test's own, with a password. */
export class PostgresServer {
  #child: ChildProcess | null = null;

  private constructor(
    readonly port: number,
    readonly directory: string,
    readonly password: string,
  ) {}

  static async start(password: string): Promise<PostgresServer> {
    const parent = temporaryFolder();
    const server = new PostgresServer(await freePort(), path.join(parent, "data"), password);
    const file = path.join(parent, "password");
    mkdirSync(server.directory);
    writeFileSync(file, password);
    if (owner !== null) for (const place of [parent, server.directory, file]) chownSync(place, owner.uid, owner.gid);
    execFileSync(
      `${programs}/initdb`,
      ["-D", server.directory, "-U", "tester", "--auth", "scram-sha-256", "--pwfile", file, "--no-sync"],
      { ...owner, stdio: "ignore" },
    );
    await server.restart();
    return server;
  }

  /** With the password, as it is given to programs. */
  get url(): string {
    return `postgres://tester:${encodeURIComponent(this.password)}@127.0.0.1:${this.port}/postgres`;
  }

  async restart(): Promise<void> {
    const args = ["-D", this.directory, "-p", String(this.port), "-h", "127.0.0.1", "-k", this.directory, "-F"];
    const child = spawn(`${programs}/postgres`, args, { ...owner, stdio: ["ignore", "ignore", "pipe"] });
    this.#child = child;
    for await (const text of child.stderr) if (String(text).includes("ready to accept connections")) break;
    child.stderr.resume();
  }

  /** Ends it as a crash would. */
  async kill(): Promise<void> {
    const child = this.#child!;
    // The first process alone would leave its children behind for a while: they hold the port.
    child.kill("SIGQUIT");
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  }
}

function idsOf(user: string): { uid: number; gid: number } | null {
  const [uid, gid] = ["-u", "-g"].map((of) => spawnSync("id", [of, user], { encoding: "utf8" }));
  return uid!.status === 0 && gid!.status === 0 ? { uid: Number(uid!.stdout), gid: Number(gid!.stdout) } : null;
}
