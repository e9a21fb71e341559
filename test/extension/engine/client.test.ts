import { build } from "esbuild";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { EngineClient } from "../../../src/extension/engine/client";
import { errorCodeOf } from "../../../src/protocol/errors";

const folder = mkdtempSync(path.join(tmpdir(), "reroute-engine-"));
const script = path.join(folder, "engine.cjs");
let client: EngineClient;
let log: string[];

beforeAll(async () => {
  const entry = path.join(import.meta.dirname, "scriptedEngine.ts");
  await build({ entryPoints: [entry], bundle: true, platform: "node", format: "cjs", outfile: script });
});
afterAll(() => rmSync(folder, { recursive: true }));
beforeEach(() => {
  log = [];
  client = newClient();
});
afterEach(() => {
  client.dispose();
  delete process.env["SCRIPTED_ENGINE"];
});

function newClient(idleMs = 60_000): EngineClient {
  return new EngineClient({ script, host: "test", idleMs, log: (level, message) => log.push(`${level}: ${message}`) });
}

const inspect = (path: string, signal?: AbortSignal) => client.request("checkpoint/inspect", { path }, signal);

describe("requests", () => {
  it("starts nothing before the first request", () => {
    expect(client.getState().state).toBe("stopped");
    expect(client.pids).toEqual({});
  });

  it("gives each caller its own answer when answers come out of order", async () => {
    const finished: string[] = [];
    const ask = async (path: string) => {
      const summary = await inspect(path);
      finished.push(summary.path);
    };
    await Promise.all([ask("sleep 120"), ask("sleep 60"), ask("plain")]);
    expect(finished).toEqual(["plain", "sleep 60", "sleep 120"]);
  });

  it.each([
    ["fail x", "checkpoint/malformed", "cannot read fail x"],
    ["bug", "internal", "x is not a function"],
  ])("%s ends in the typed error %s", async (path, code, message) => {
    await expect(inspect(path)).rejects.toMatchObject({ code, message });
  });

  it("cancels by signal, before and while the engine works", async () => {
    const early = AbortSignal.abort();
    await expect(inspect("hang", early)).rejects.toMatchObject({ code: "cancelled" });
    const late = new AbortController();
    const call = inspect("hang", late.signal);
    setTimeout(() => late.abort(), 50);
    await expect(call).rejects.toMatchObject({ code: "cancelled" });
    expect(log.filter((line) => line.startsWith("error"))).toEqual([]);
  });
});

describe("jobs", () => {
  const resume = (runDirectory: string, signal?: AbortSignal) => client.request("run/resume", { runDirectory }, signal);

  const events: string[] = [];
  beforeEach(() => {
    events.length = 0;
    client.onEvent((event) => {
      if (event.name !== "run/progress") return;
      events.push(`${event.body.progress.done === 0 ? "start" : "end"}:${event.body.runDirectory}`);
    });
  });

  it("run one at a time", async () => {
    await Promise.all([resume("sleep 150"), resume("sleep 10")]);
    expect(events).toEqual(["start:sleep 150", "end:sleep 150", "start:sleep 10", "end:sleep 10"]);
  });

  it("that block their thread keep no inspection waiting", async () => {
    const flag = path.join(folder, "go-on");
    const job = resume(`block ${flag}`);
    await until(() => events.length > 0);
    // The job ends only after these answers: were they behind it, nothing would ever end.
    for (const name of ["meanwhile", "again"]) expect((await inspect(name)).path).toBe(name);
    expect(events).toEqual([`start:block ${flag}`]);
    writeFileSync(flag, "");
    await job;
    expect(events).toEqual([`start:block ${flag}`, `end:block ${flag}`]);
  });

  it("a job cancelled while it waits never starts, the next one does", async () => {
    const stop = new AbortController();
    const first = resume("sleep 150");
    const waiting = resume("hang", stop.signal);
    const third = resume("sleep 1");
    setTimeout(() => stop.abort(), 30);
    await expect(waiting).rejects.toMatchObject({ code: "cancelled" });
    await Promise.all([first, third]);
    expect(events.filter((event) => event.includes("hang"))).toEqual([]);
    expect(events).toContain("end:sleep 1");
  });

  it("are told what to do without their window, before they start and while they run", async () => {
    client.onDisconnect("finish-runs");
    await resume("policy finish-runs");
    const running = resume("policy exit");
    await until(() => events.includes("start:policy exit"));
    client.onDisconnect("exit");
    await running;
  });

  it("that end with their process leave inspection alone", async () => {
    await inspect("before");
    const { inspection } = client.pids;
    await expect(resume("crash")).rejects.toMatchObject({ code: "engine/closed" });
    expect(client.getState().state).toBe("crashed");
    expect((await inspect("after")).path).toBe("after");
    expect(client.pids).toEqual({ inspection });
    await resume("sleep 1");
    expect(client.getState().state).toBe("ready");
  });
});

describe("the end of the process", () => {
  it("fails every pending call with the reason and stderr, and the next call starts a new engine", async () => {
    const states: string[] = [];
    client.onStateChange(({ state }) => states.push(state));
    const calls = await Promise.allSettled([inspect("hang"), inspect("crash")]);
    for (const call of calls) {
      if (call.status === "fulfilled") throw new Error("a dead engine cannot answer");
      expect(errorCodeOf(call.reason)).toBe("engine/closed");
      expect(String(call.reason)).toMatch(/SIGKILL[\s\S]*Ort::Exception/);
    }
    expect(client.getState()).toMatchObject({ state: "crashed" });
    expect((await inspect("again")).path).toBe("again");
    expect(states).toEqual(["starting", "ready", "crashed", "starting", "ready"]);
  });

  it("says why an engine that dies at once could not start", async () => {
    process.env["SCRIPTED_ENGINE"] = "dies-at-start";
    await expect(inspect("x")).rejects.toMatchObject({
      code: "engine/closed",
      message: expect.stringContaining("cannot open shared object file") as string,
    });
  });

  it("gives up an engine that hangs before it answers", async () => {
    process.env["SCRIPTED_ENGINE"] = "silent";
    client = new EngineClient({ script, host: "test", idleMs: 60_000, handshakeMs: 300, log: () => undefined });
    await expect(inspect("x")).rejects.toMatchObject({
      code: "engine/closed",
      message: expect.stringContaining("did not answer within 0.3 s") as string,
    });
    expect(client.getState().state).toBe("unavailable");
  });

  it("refuses an engine of another protocol version", async () => {
    process.env["SCRIPTED_ENGINE"] = "other-version";
    await expect(inspect("x")).rejects.toMatchObject({ code: "engine/version" });
    expect(client.getState().state).toBe("unavailable");
  });

  it("ends an idle engine and starts another when asked again", async () => {
    client = newClient(50);
    await inspect("x");
    const first = client.pids.inspection;
    expect(first).toBeDefined();
    await until(() => client.getState().state === "stopped" && !isAlive(first!));
    await inspect("y");
    expect(client.pids.inspection).not.toBe(first);
  });

  it("ends the process when the host lets go", async () => {
    await inspect("x");
    const pid = client.pids.inspection!;
    client.dispose();
    await until(() => !isAlive(pid));
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
