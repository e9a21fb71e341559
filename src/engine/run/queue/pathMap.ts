import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { quote } from "../../checkpoint/quote";
import type { MapPath } from "../tiles/runTile";
import type { QueueAddress } from "./queueAddress";

/** Where this machine has a folder of the coordinator's machine. */
export interface PathMapping {
  from: string;
  to: string;
}

/** @param text FROM=TO, or a folder that lies at the same place on both. @throws RerouteError arguments/invalid */
export function parseMapping(text: string): PathMapping {
  const half = text.slice(0, (text.length - 1) / 2);
  // A folder whose name holds "=" can be named where it is the same on both machines.
  const parts = text === `${half}=${half}` ? [half] : text.split("=");
  const [from = "", to = from, ...others] = parts;
  if (others.length > 0 || !path.isAbsolute(from) || !path.isAbsolute(to))
    throw new RerouteError("arguments/invalid", `--map is ${quote(text)}, expected FROM=TO with two absolute folders`);
  return { from: path.normalize(from), to: path.normalize(to) };
}

/**
 * Mappings of a worker. Without any it would read whatever path the queue names, so a queue on another machine needs one.
 * @throws RerouteError arguments/invalid
 */
export function mappingsFor({ isLocal, shown }: QueueAddress, texts: readonly string[]): PathMapping[] {
  if (texts.length > 0 || isLocal) return texts.map(parseMapping);
  throw new RerouteError(
    "arguments/invalid",
    `The queue ${shown} is on another machine and could name any file of this one; say which folders it may, by --map FOLDER (the same place on both) or --map FROM=TO`,
  );
}

/** Where the coordinator's folders are here. With mappings nothing outside them is touched; without, they are where they are there. */
export function pathMap(maps: readonly PathMapping[]): MapPath {
  return (given) => {
    const wanted = path.normalize(given);
    if (!path.isAbsolute(wanted)) throw outside(given);
    if (maps.length === 0) return wanted;
    for (const { from, to } of maps) {
      const inside = path.relative(from, wanted);
      const isOutside = inside === ".." || inside.startsWith(`..${path.sep}`) || path.isAbsolute(inside);
      if (!isOutside) return path.join(to, inside);
    }
    throw outside(given);
  };
}

function outside(given: string): RerouteError {
  return new RerouteError(
    "run/invalid",
    `A tile names ${quote(given)}, which is in no folder that this worker was given; start the worker with --map FROM=TO for it`,
  );
}
