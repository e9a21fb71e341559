import path from "node:path";
import { RerouteError } from "../../../protocol/errors";
import { quote } from "../../checkpoint/quote";
import type { MapPath } from "../tiles/runTile";

/** Where this machine has a folder of the coordinator's machine. */
export interface PathMapping {
  from: string;
  to: string;
}

/** @param text FROM=TO, or a folder that lies at the same place on both. @throws RerouteError arguments/invalid */
export function parseMapping(text: string): PathMapping {
  const [from = "", to = from, ...others] = text.split("=");
  if (others.length > 0 || !path.isAbsolute(from) || !path.isAbsolute(to))
    throw new RerouteError("arguments/invalid", `--map is ${quote(text)}, expected FROM=TO with two absolute folders`);
  return { from: path.normalize(from), to: path.normalize(to) };
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
