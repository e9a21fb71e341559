import { describe, expect, it } from "vitest";
import { leavesOf } from "../../../src/engine/execution/leaves";
import { measureNumerics } from "../../../src/engine/execution/numerics";
import { workerChecks } from "../../../src/engine/run/queue/examineQueue";
import { connectionsCheck, postgresCheck } from "../../../src/engine/run/queue/postgresNotes";
import { evictionCheck, serverCheck } from "../../../src/engine/run/queue/redisNotes";
import { mappingsFor, parseMapping, pathMap } from "../../../src/engine/run/queue/pathMap";
import { queueName } from "../../../src/engine/run/queue/presence";
import { queueAddress, withoutPassword } from "../../../src/engine/run/queue/queueAddress";
import { leafTiles } from "../../../src/engine/run/tiles/tileCuts";
import { keyed, tileSchema, type TileOf } from "../../../src/engine/run/tiles/tile";

describe("a queue's URL", () => {
  it.each([
    ["redis://localhost", { host: "localhost", port: 6379, db: 0 }],
    ["redis://[::1]:7000/2", { host: "::1", port: 7000, db: 2 }],
    ["rediss://me:a%40b@far.example:1", { host: "far.example", port: 1, username: "me", password: "a@b", tls: {} }],
    ["postgres://localhost/jobs", { host: "localhost", port: 5432, database: "jobs", ssl: false, migrate: true }],
    ["postgresql://me:a%40b@db.example:6/j?sslmode=verify-full", { user: "me", password: "a@b", port: 6, ssl: true }],
  ])("%s", (url, connection) => {
    expect(queueAddress(url, false).connection).toMatchObject(connection);
  });

  it.each([
    ["redis://far.example", "queue/insecure"],
    ["redis://:secret@10.0.0.7:6379", "queue/insecure"],
    ["http://localhost", "arguments/invalid"],
    ["localhost:6379", "arguments/invalid"],
    ["postgres://u:secret@db.example/db", "queue/insecure"],
    ["postgres://u:secret@db.example/db?sslmode=disable", "queue/insecure"],
    ["postgres://u:secret@db.example/db?sslmode=require", "arguments/invalid"],
    ["postgres://u:secret@localhost/db?host=other", "arguments/invalid"],
    ["mysql://u:secret@localhost/db", "arguments/invalid"],
  ])("%s is refused with %s, its password unsaid", (url, code) => {
    let thrown: unknown;
    try {
      queueAddress(url, false);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code });
    expect(String(thrown)).not.toContain("secret");
    if (code === "queue/insecure") expect(queueAddress(url, true).connection.host).toContain(".");
  });

  it.each([
    ["redis://u:p@h", "redis://u:***@h"],
    ["redis://:p@x@h:1/0", "redis://:***@h:1/0"],
    ["redis://h:1", "redis://h:1"],
  ])("%s is shown as %s", (url, shown) => {
    expect(withoutPassword(url)).toBe(shown);
  });
});

describe("paths of the coordinator", () => {
  const map = pathMap(["/data=/mnt/d", "/same", "/keep=0.5=/keep=0.5"].map(parseMapping));
  it.each([
    ["/data", "/mnt/d"],
    ["/data/a/b", "/mnt/d/a/b"],
    ["/data/a/../b", "/mnt/d/b"],
    ["/same/x", "/same/x"],
    ["/keep=0.5/x", "/keep=0.5/x"],
  ])("%s is %s here", (given, here) => {
    expect(map(given)).toBe(here);
  });
  it.each(["/other", "/data/../etc/passwd", "/database", "data/x", "../x"])("%s is outside", (given) => {
    expect(() => map(given)).toThrow(/in no folder/);
  });
  it("are named where the queue is on another machine", () => {
    const far = queueAddress("rediss://far.example", false);
    expect(() => mappingsFor(far, [])).toThrow(/could name any file of this one/);
    expect(mappingsFor(far, ["/data"])).toEqual([{ from: "/data", to: "/data" }]);
    for (const near of ["redis://localhost", "redis://127.0.0.1:1", "redis://[::1]"])
      expect(mappingsFor(queueAddress(near, false), [])).toEqual([]);
  });
  it.each(["a=b", "/a=b", "/a=/b=/c", ""])("--map %s is refused", (text) => {
    expect(() => parseMapping(text)).toThrow(/expected FROM=TO/);
  });
});

describe("a tile", () => {
  const hash = "0123456789abcdef".repeat(4);
  const tile = keyed({
    ...{ kind: "profile", folder: "/run/tiles", numerics: hash, text: { name: "text-1.safetensors", sha256: hash } },
    ...{ model: { path: "/teacher", fingerprint: "f" }, from: 0, to: 16, renormalises: true },
  }) as TileOf<"profile">;

  it("is what its schema says, and named by what decides its bytes alone", () => {
    expect(tileSchema.parse(JSON.parse(JSON.stringify(tile)))).toEqual(tile);
    const { key: _, protocol: __, ...rest } = tile;
    expect(keyed({ ...rest, folder: "/elsewhere/tiles", model: { ...rest.model, path: "/there" } }).key).toBe(tile.key);
    expect(keyed({ ...rest, to: 17 }).key).not.toBe(tile.key);
    expect(keyed({ ...rest, model: { path: "/teacher", fingerprint: "g" } }).key).not.toBe(tile.key);
    expect(keyed({ ...rest, numerics: hash.replace("0", "1") }).key).not.toBe(tile.key);
  });

  it.each([
    ["another kind", { kind: "shell" }],
    ["a path as a name", { text: { name: "../text", sha256: hash } }],
    ["a key that is no hash", { key: "../../x" }],
    ["more than is known", { command: "x" }],
    ["another protocol", { protocol: 99 }],
  ])("with %s is refused", (_name, change) => {
    expect(tileSchema.safeParse({ ...tile, ...change }).success).toBe(false);
  });

  it.each([
    [1, 512],
    [700, 24],
    [3000, 512],
    [40_000, 512],
    [7, 9000],
  ])("of a profile of %i sequences of %i tokens is a node of its tree", (numSequences, sequenceLength) => {
    const tiles = leafTiles(numSequences, sequenceLength);
    const leaves = leavesOf(sequenceLength);
    let next = 0;
    for (const { from, to, leaves: count } of tiles) {
      expect(from).toBe(next);
      next = to;
      const first = from / leaves.sequences;
      const isLast = to === numSequences;
      expect(Number.isInteger(first) && (isLast || first % count === 0)).toBe(true);
      expect(Math.floor(first / leaves.perBlock)).toBe(Math.floor((first + count - 1) / leaves.perBlock));
      expect(Math.ceil((to - from) / leaves.sequences)).toBe(count);
    }
    expect(next).toBe(numSequences);
  });
});

describe("what is said of a queue", () => {
  it.each([
    [{ redis_version: "7.0.15" }, "warning"],
    [{ redis_version: "7.2.11" }, "ok"],
    [{ redis_version: "7.4.5" }, "warning"],
    [{ redis_version: "8.2.2" }, "ok"],
    [{ redis_version: "5.0.7" }, "problem"],
    [{ redis_version: "7.2.4", valkey_version: "8.1.0" }, "ok"],
  ])("%o: %s", (info, state) => {
    expect(serverCheck({ shown: "q" }, info as Record<string, string>).state).toBe(state);
  });

  it("names workers that are not eligible, with the reason", () => {
    const of = (name: string, numerics: string) => ({
      ...{ name, numerics, about: "CPU" },
      ...{ host: "h", threads: 1, memoryBytes: 1, since: "", beat: 1, tile: null, tiles: 3 },
      tokensPerSecond: 10,
    });
    const checks = workerChecks([of("a", "x"), of("b", "y")], { hash: "x" });
    expect(checks.map(({ state }) => state)).toEqual(["ok", "warning"]);
    expect(checks[1]!.detail).toContain("not eligible");
    expect(workerChecks([], { hash: "x" })[0]!.state).toBe("warning");
    expect(evictionCheck("allkeys-lru").state).toBe("warning");
    expect(evictionCheck("noeviction").state).toBe("ok");
    expect([120_000, 130_004].map((number) => postgresCheck("q", number, "x").state)).toEqual(["problem", "ok"]);
    expect([90, 20].map((used) => connectionsCheck(100, used).state)).toEqual(["warning", "ok"]);
  });
});

it("this machine's numerics are the same each time, with any threads; rows are independent, as sums by leaves need", async () => {
  const of = (threads: number) => measureNumerics({ threads, provider: "cpu", memoryBudgetBytes: 1e9 });
  const [first, second] = [await of(1), await of(2)];
  expect(first).toMatchObject({ rowsAreIndependent: true, hash: second.hash });
  expect(queueName(first.hash)).toMatch(/^reroute-4-[0-9a-f]{12}$/);
});
