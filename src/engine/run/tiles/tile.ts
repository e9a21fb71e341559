import { z } from "zod";
import { contentKey } from "../../checkpoint/contentKey";
import { calibrateOptions, teacherRouting } from "../../../protocol/calibrateOptions";
import { compressOptions } from "../../../protocol/recipe";

/** Raised when the same tile would be computed otherwise; workers of another version get no tiles of this one. */
export const tileProtocol = 4;

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
  /** Done by this worker, to be done by another to compare their bytes. */
  again: z.string().max(200).optional(),
  /** The numerics of every machine that may work on it (numerics.ts). */
  numerics: hash,
};
/** What the model's experts read is rounded so. */
const { activations } = calibrateOptions.shape;
/** A file of `folder`, with its hash. */
const input = z.strictObject({ name: fileName, sha256: hash });
/** Sequences [from, to) of a text. */
const slice = { text: input, from: count, to: count };

/** Layers [from, to) of the model, where a run cuts them into parts; `hidden` is what the part before hands on. */
const layerRange = z.strictObject({
  ...{ from: count, to: count, part: count, parts: z.int().min(2).max(1024) },
  hidden: input.nullable(),
});
export type LayerRange = z.infer<typeof layerRange>;

/** Routing statistics of sequences [from, to), a node of the tree over leaves. */
const profileTile = z.strictObject({
  ...common,
  ...slice,
  kind: z.literal("profile"),
  model,
  renormalises: z.boolean(),
  layers: layerRange.optional(),
});

/** What the student of a calibration is tried with. */
const ofStudent = {
  student: model,
  teacher: model,
  /** Current values of what trains. */
  parameters: input,
  options: calibrateOptions,
};

/** Loss and router gradients of some sequences of a batch, a node of the tree over its sequences. */
const gradientTile = z.strictObject({
  ...common,
  ...ofStudent,
  kind: z.literal("gradient"),
  text: input,
  numbers: z.array(count).min(1).max(4096),
  /** Place of the first in the batch. */
  at: count,
  numTargets: count,
  /** Teacher targets by draw, in the run folder; none where the teacher has no part. */
  targets: z.array(fileName).max(64),
});

/** KL and loss of each row of held-out sequences. */
const heldOutTile = z.strictObject({
  ...common,
  ...ofStudent,
  ...slice,
  kind: z.literal("held-out"),
  /** Teacher targets of the whole held-out text, in the run folder. */
  targets: fileName,
});

/** The teacher's final normalised hidden states. */
const targetsTile = z.strictObject({
  ...common,
  ...slice,
  kind: z.literal("targets"),
  model,
  routing: teacherRouting.nullable(),
  seed: z.number(),
  /** Which of the routing's draws. */
  draw: count,
  layers: layerRange.optional(),
});

/** A model's own loss of each row and, for students to come, its hidden states and routing. */
const teacherTile = z.strictObject({
  ...common,
  ...slice,
  kind: z.literal("evaluate-teacher"),
  model,
  activations,
  layers: layerRange.optional(),
});

/** A student's rows against its teacher's tiles of the same sequences; one leaf. */
const evaluateTile = z.strictObject({
  ...common,
  ...slice,
  kind: z.literal("evaluate"),
  model,
  activations,
  teacher: model,
  /** The teacher's tiles with these layers' routing and, for the last layers, its hidden states. */
  against: z.array(input).min(1).max(1024),
  /** Expert ids by layer, where they are not the teacher's own. */
  mapping: input.nullable(),
  layers: layerRange.optional(),
});

/** Cosines of one layer's experts. */
const cosinesTile = z.strictObject({
  ...common,
  kind: z.literal("cosines"),
  model,
  layer: count,
  /** Numbers that are multiplied at a time, which decide the last bits. */
  numbers: count,
});

/** One layer's compressed tensors. */
const layerTile = z.strictObject({
  ...common,
  kind: z.literal("compress"),
  model,
  layer: count,
  plan: input,
  statistics: input.nullable(),
  /** Calibration text; what the layer sees of it, where the method looks at that. */
  text: input.nullable(),
  seen: input.nullable(),
  options: compressOptions,
  seed: z.number(),
});

export const tileSchema = z.discriminatedUnion("kind", [
  profileTile,
  gradientTile,
  heldOutTile,
  targetsTile,
  teacherTile,
  evaluateTile,
  cosinesTile,
  layerTile,
]);
export type Tile = z.infer<typeof tileSchema>;
export type TileOf<K extends Tile["kind"]> = Extract<Tile, { kind: K }>;

/** Files of a tile: its tensors, and for some kinds what is not a tensor. */
const part = { bytes: z.number().min(0), sha256: hash };

/** What a worker says about a tile it has done. */
export const tileResult = z.strictObject({
  key: hash,
  ...part,
  /** `<key>.extra.json` */
  extra: z.strictObject(part).optional(),
  /** `<key>.hidden.safetensors`: what it hands on to the tile of the next layers, which once read is taken away. */
  hidden: z.strictObject({ ...part, isUsed: z.boolean().optional() }).optional(),
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
const unkeyed = new Set(["folder", "at", "again"]);

/** What a queue calls the work on a tile. */
export function jobOf({ key, again }: Pick<Tile, "key" | "again">): string {
  return again === undefined ? key : `${key}-again`;
}

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
