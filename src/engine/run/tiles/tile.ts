import { z } from "zod";
import { contentKey } from "../../checkpoint/contentKey";
import { calibrateOptions } from "../../../protocol/recipe";

/** Raised when the same tile would be computed otherwise; workers of another version get no tiles of this one. */
export const tileProtocol = 1;

const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z
  .int()
  .min(0)
  .max(2 ** 31);
/** A file of the folder that tiles are in, or of the run folder around it: a plain name, never a path. */
const fileName = z
  .string()
  .regex(/^[\w-]+(\.[\w-]+)*$/)
  .max(200);
const folder = z.string().min(1).max(4096);
const model = z.strictObject({ path: folder, fingerprint: z.string().min(1).max(200) });

const common = {
  protocol: z.literal(tileProtocol),
  /** Names the tile and its files: a hash of everything that decides its bytes. */
  key: hash,
  /** Folder of the run's tiles, as the coordinator sees it. */
  folder,
  /** The numerics of every machine that may work on it (numerics.ts). */
  numerics: hash,
  /** Sequences, in `folder`, with its hash. */
  text: z.strictObject({ name: fileName, sha256: hash }),
};

/** Routing statistics of sequences [from, to), a node of the tree over leaves. */
const profileTile = z.strictObject({
  ...common,
  kind: z.literal("profile"),
  model,
  from: count,
  to: count,
  renormalises: z.boolean(),
});

/** Loss and router gradients of some sequences of a batch, a node of the tree over its sequences. */
const gradientTile = z.strictObject({
  ...common,
  kind: z.literal("gradient"),
  student: model,
  teacher: model,
  /** Current values of what trains, in `folder`. */
  parameters: z.strictObject({ name: fileName, sha256: hash }),
  numbers: z.array(count).min(1).max(4096),
  /** Place of the first in the batch. */
  at: count,
  numTargets: count,
  options: calibrateOptions,
  /** Teacher targets by draw, in the run folder; none where the teacher has no part. */
  targets: z.array(fileName).max(64),
});

export const tileSchema = z.discriminatedUnion("kind", [profileTile, gradientTile]);
export type Tile = z.infer<typeof tileSchema>;
export type TileOf<K extends Tile["kind"]> = Extract<Tile, { kind: K }>;

/** What a worker says about a tile it has done. */
export const tileResult = z.strictObject({
  key: hash,
  bytes: count,
  sha256: hash,
  worker: z.string().max(200),
  seconds: z.number().min(0),
  tokens: count,
  /** Milliseconds of processor time. */
  processorMs: z.number().min(0),
  /** Times that it was begun, as far as the queue knows. */
  attempts: z.int().min(1).default(1),
});
export type TileResult = z.infer<typeof tileResult>;

type Unkeyed<T> = T extends Tile ? Omit<T, "key" | "protocol"> : never;

/** Members that say where inputs lie or what is shown of a tile, not what it is. */
const unkeyed = new Set(["folder", "at"]);

/** Gives a tile its key. */
export function keyed(tile: Unkeyed<Tile>): Tile {
  const withoutPaths = Object.fromEntries(
    Object.entries<unknown>(tile)
      .filter(([name]) => !unkeyed.has(name))
      .map(([name, value]) => [
        name,
        typeof value === "object" && value !== null && "fingerprint" in value ? value.fingerprint : value,
      ]),
  );
  return { ...tile, protocol: tileProtocol, key: contentKey({ protocol: tileProtocol, ...withoutPaths }) };
}
