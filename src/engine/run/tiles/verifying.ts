import { RerouteError } from "../../../protocol/errors";
import type { Carrier } from "./carrier";
import { inHand } from "./tileBounds";

/**
 * A carrier that has a share of the tiles done a second time, by another worker, and compares their bytes: memory that fails and
 * workers that lie are found that way. Which tiles is decided by their names, which no worker chooses.
 *
 * @param share 0 to 1
 * @param hasOther whether there is an eligible worker of another name
 */
export function verifying(carrier: Carrier, share: number, hasOther: (than: string) => boolean): Carrier {
  if (share <= 0) return carrier;
  return {
    ...carrier,
    verify: async (tile, result, store, signal) => {
      const isChosen = parseInt(tile.key.slice(0, 8), 16) / 2 ** 32 < share;
      if (!isChosen || !hasOther(result.worker)) return false;
      const second = store.again();
      const again = await carrier.carry({ ...tile, again: result.worker }, second, signal);
      await second.remove(tile.key);
      if (again.sha256 === result.sha256 && again.hidden?.sha256 === result.hidden?.sha256) return true;
      await store.remove(tile.key);
      const { pass, bounds } = inHand(tile);
      throw new RerouteError(
        "queue/differs",
        `The workers ${result.worker} and ${again.worker} computed other bytes for ${pass}, ${bounds.unit} ${bounds.from} to ${bounds.to} (${result.sha256.slice(0, 12)} and ${again.sha256.slice(0, 12)}); one of them has failing memory or is not what it says. Stop the one that you trust less, then run again; tiles that were not compared may be wrong, too: begin in a new run folder to be sure`,
      );
    },
  };
}
