import { readFileSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import path from "node:path";
import { describe, expect, it } from "vitest";
import { openModel } from "../../../src/engine/run/modelCache";
import { tileOf } from "../../../src/engine/run/tiles/kinds/tileHost";
import { TileRunner } from "../../../src/engine/run/tiles/runTile";
import { wholeTile, type Carrier, type TileEvents } from "../../../src/engine/run/tiles/carrier";
import { jobOf, keyed, type Tile, type TileResult } from "../../../src/engine/run/tiles/tile";
import { TileStore } from "../../../src/engine/run/tiles/tileStore";
import { verifying } from "../../../src/engine/run/tiles/verifying";
import { TinyRun } from "../../faults/tinyRun";
import { temporaryFolder } from "../../support/temporaryFolder";

const hash = "0123456789abcdef".repeat(4);
const quiet: TileEvents = { asked: () => undefined, done: () => undefined, dropped: () => undefined };
const { signal } = new AbortController();

function tileIn(folder: string): Tile {
  return keyed({
    ...{ kind: "profile", folder, numerics: hash, text: { name: "text-1.safetensors", sha256: hash } },
    ...{ model: { path: "/teacher", fingerprint: "f" }, from: 0, to: 16, renormalises: true },
  });
}

function resultOf(tile: Tile, bytes: Uint8Array, worker = "a"): TileResult {
  const sha256 = createHash("sha256").update(bytes).digest("hex");
  return { key: tile.key, bytes: bytes.length, sha256, worker, seconds: 1, tokens: 10, processorMs: 1, attempts: 1 };
}

/** A carrier whose worker does what it is told with the tile's file. */
function carrierThat(work: (tile: Tile, store: TileStore, times: number) => TileResult): Carrier & { times: number } {
  const count = { times: 0 };
  return {
    numerics: hash,
    get times() {
      return count.times;
    },
    carry: (tile, store) => Promise.resolve(work(tile, store, ++count.times)),
    forget: () => Promise.resolve(),
    close: () => Promise.resolve(),
  };
}

describe("a tile that comes from a worker", () => {
  const good = Buffer.from("the bytes of the tile");

  it("is worked on again where its file was cut short, and given up when that happens every time", async () => {
    const folder = temporaryFolder();
    const tile = tileIn(folder);
    const cutTimes = (cut: number) =>
      carrierThat((of, store, times) => {
        writeFileSync(store.file(of.key), good);
        if (times <= cut) truncateSync(store.file(of.key), 5);
        return resultOf(of, good);
      });
    const twice = cutTimes(2);
    const store = new TileStore(folder, "", () => Promise.resolve());
    await wholeTile(tile, store, twice, signal, quiet);
    expect(twice.times).toBe(3);
    expect(readFileSync(store.file(tile.key))).toEqual(good);
    await store.remove(tile.key);
    await expect(wholeTile(tile, store, cutTimes(99), signal, quiet)).rejects.toThrow(/damaged 5 times/);
  });

  it("may appear behind the message that names it, and is not asked for again then", async () => {
    const folder = temporaryFolder();
    const tile = tileIn(folder);
    let looks = 0;
    const store: TileStore = new TileStore(folder, "", async (ms) => {
      looks += ms / 1000;
      if (looks === 5) writeFileSync(store.file(tile.key), good);
    });
    const late = carrierThat((of) => resultOf(of, good));
    await wholeTile(tile, store, late, signal, quiet);
    expect([looks, late.times]).toEqual([5, 1]);
  });

  it("is found where it is there already, whoever did it", async () => {
    const folder = temporaryFolder();
    const tile = tileIn(folder);
    const store = new TileStore(folder);
    const doubled = carrierThat((of, at) => {
      writeFileSync(at.file(of.key), good);
      return resultOf(of, good);
    });
    const both = await Promise.all([1, 2].map(() => wholeTile(tile, store, doubled, signal, quiet)));
    expect(both[0]).toEqual(both[1]);
    expect((await wholeTile(tile, store, doubled, signal, quiet)).sha256).toBe(both[0]!.sha256);
    expect(doubled.times).toBe(2);
  });

  it.each([
    ["the same bytes", "the bytes of the tile", true],
    ["other bytes", "the bytes of another", false],
  ])("is compared with what another worker makes of it: %s", async (_name, second, isSame) => {
    const folder = temporaryFolder();
    const tile = tileIn(folder);
    const jobs: string[] = [];
    const workers = carrierThat((of, store) => {
      jobs.push(jobOf(of));
      const bytes = of.again === undefined ? good : Buffer.from(second);
      writeFileSync(store.file(of.key), bytes);
      return resultOf(of, bytes, of.again === undefined ? "a" : "b");
    });
    const store = new TileStore(folder);
    const work = wholeTile(
      tile,
      store,
      verifying(workers, 1, (than) => than === "a"),
      signal,
      quiet,
    );
    if (isSame) expect((await work).worker).toBe("a");
    else await expect(work).rejects.toMatchObject({ code: "queue/differs" });
    expect(jobs).toEqual([tile.key, `${tile.key}-again`]);
    // A tile that is in doubt is not found again.
    expect(await store.find(tile.key)).toEqual(isSame ? expect.anything() : null);
  });

  it("is not compared where nobody else could make it, or no share is", async () => {
    const folder = temporaryFolder();
    for (const [share, hasOther] of [
      [1, false],
      [0, true],
    ] as const) {
      const workers = carrierThat((of, store) => {
        writeFileSync(store.file(of.key), good);
        return resultOf(of, good);
      });
      const store = new TileStore(folder);
      await wholeTile(
        tileIn(folder),
        store,
        verifying(workers, share, () => hasOther),
        signal,
        quiet,
      );
      expect(workers.times).toBe(1);
      await store.remove(tileIn(folder).key);
    }
  });
});

describe("a worker", () => {
  const runner = (mapPath = (at: string) => at) =>
    new TileRunner({
      ...{ worker: "w", scratchDirectory: temporaryFolder(), signal, mapPath },
      runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 },
    });

  it("writes into no folder but one of tiles", async () => {
    await expect(runner().run(tileIn(temporaryFolder()))).rejects.toThrow(/it would write into/);
  });
});

it("a worker reads a checkpoint anew that was written again with the same bytes, and refuses another one", async () => {
  const parent = temporaryFolder();
  await TinyRun.makeParent(parent);
  const teacher = path.join(parent, "teacher");
  const { fingerprint } = await openModel(teacher);
  const store = new TileStore(path.join(parent, "tiles"));
  await store.make();
  const runner = new TileRunner({
    ...{ worker: "w", scratchDirectory: parent, signal, mapPath: (at: string) => at },
    runtime: { threads: 1, provider: "cpu", memoryBudgetBytes: 1e9 },
  });
  const desk = { store, carrier: { numerics: hash } as Carrier };
  const tile = tileOf(desk, "cosines", { model: { path: teacher, fingerprint }, layer: 0, numbers: 4096 });
  const before = await runner.run(tile);
  const shard = path.join(teacher, "model.safetensors");
  const bytes = readFileSync(shard);
  writeFileSync(shard, bytes);
  utimesSync(shard, 1e9, 1e9);
  await store.remove(tile.key);
  expect((await runner.run(tile)).sha256).toBe(before.sha256);
  bytes[bytes.length - 1]! ^= 1;
  writeFileSync(shard, bytes);
  await store.remove(tile.key);
  await expect(runner.run(tile)).rejects.toMatchObject({ code: "checkpoint/changed" });
  await runner.close();
});
