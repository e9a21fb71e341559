import { existsSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { ModelDescription } from "../../../src/engine/model/description";
import { parseLayersServed, queueName } from "../../../src/engine/run/queue/presence";
import type { Carrier } from "../../../src/engine/run/tiles/carrier";
import { askThroughLayers, layerBounds } from "../../../src/engine/run/tiles/kinds/layerParts";
import { tileOf, type TileDesk } from "../../../src/engine/run/tiles/kinds/tileHost";
import type { TileOf } from "../../../src/engine/run/tiles/tile";
import { TileStore } from "../../../src/engine/run/tiles/tileStore";
import { temporaryFolder } from "../../support/temporaryFolder";

const hash = "0123456789abcdef".repeat(4);

/** "d" a dense layer, "m" one with experts. */
function modelOf(kinds: string): ModelDescription {
  const layers = Array.from(kinds, (kind) => ({ feedForward: { kind: kind === "m" ? "moe" : "dense" } }));
  return { layers } as unknown as ModelDescription;
}

describe("parts of a model's layers", () => {
  it.each([
    ["mmmm", 2, "0-2 2-4"],
    ["mmmmm", 2, "0-2 2-5"],
    ["ddmmm", 3, "0-3 3-4 4-5"],
    ["mdmd", 2, "0-2 2-4"],
    ["mm", 5, "0-1 1-2"],
    ["dm", 4, "0-2"],
    ["dd", 2, "0-2"],
  ])("%s in %i: %s", (kinds, parts, expected) => {
    const bounds = layerBounds(modelOf(kinds), parts);
    expect(bounds.map(({ from, to }) => `${from}-${to}`).join(" ")).toBe(expected);
  });

  it("have queues of their own, and workers that keep to one name it", () => {
    expect(queueName(hash, parseLayersServed("2/8"))).toBe(`${queueName(hash)}-2of8`);
    for (const text of ["0/2", "3/2", "1/1", "1", "a/b", "1/2000"])
      expect(() => parseLayersServed(text), text).toThrow(/one part of a number of parts/);
  });
});

describe("a chain of tiles", () => {
  const desk = () => {
    const store = new TileStore(temporaryFolder());
    const did: number[] = [];
    const bytes = (text: string) => {
      const data = Buffer.from(text);
      return { bytes: data.length, sha256: createHash("sha256").update(data).digest("hex"), data };
    };
    const carrier: Carrier = {
      numerics: hash,
      carry: (tile) => {
        const { part, parts, hidden } = (tile as TileOf<"profile">).layers!;
        did.push(part);
        if (hidden !== null) expect(existsSync(`${store.folder}/${hidden.name}`)).toBe(true);
        const [own, handed] = [bytes(`tile ${part}`), bytes(`hidden ${part}`)];
        writeFileSync(store.file(tile.key), own.data);
        if (part + 1 < parts) writeFileSync(store.handed(tile.key), handed.data);
        const more = part + 1 < parts ? { hidden: { bytes: handed.bytes, sha256: handed.sha256 } } : {};
        return Promise.resolve({
          ...{ key: tile.key, bytes: own.bytes, sha256: own.sha256, ...more },
          ...{ worker: "w", seconds: 1, tokens: 1, processorMs: 1, attempts: 1 },
        });
      },
      forget: () => Promise.resolve(),
      close: () => Promise.resolve(),
    };
    const events = { asked: () => undefined, done: () => undefined, dropped: () => undefined };
    const of: TileDesk = { carrier, store, events, layerParts: 3, signal: new AbortController().signal };
    const chain = () =>
      askThroughLayers(modelOf("mmm"), of, (layers) =>
        tileOf(of, "profile", {
          ...{ model: { path: "/t", fingerprint: "f" }, text: { name: "t.safetensors", sha256: hash } },
          ...{ from: 0, to: 8, renormalises: false, ...(layers && { layers }) },
        }),
      );
    return { store, did, chain };
  };

  it("hands hidden states on, which are taken away once they were read, and is found whole afterwards", async () => {
    const { store, did, chain } = desk();
    const tiles = await chain();
    expect(did).toEqual([0, 1, 2]);
    expect(tiles.map(({ tile: { key } }) => existsSync(store.handed(key)))).toEqual([false, false, false]);
    expect((await chain()).map(({ tile }) => tile.key)).toEqual(tiles.map(({ tile }) => tile.key));
    expect(did).toEqual([0, 1, 2]);
  });

  it("begins again where a tile is gone whose input is gone, too", async () => {
    const { store, did, chain } = desk();
    const tiles = await chain();
    await store.remove(tiles[2]!.tile.key);
    expect((await chain()).map(({ tile }) => tile.key)).toEqual(tiles.map(({ tile }) => tile.key));
    expect(did).toEqual([0, 1, 2, 0, 1, 2]);
  });
});
