import type { PanelWorker, WorkersPanelData } from "../../src/protocol/workersPanel";
import { bytes, count, decimal, duration, percent } from "../common/format";
import type { TableColumn, TableModel } from "../common/tableModel";
import { t } from "../common/translate";
import { busyShare, efficiencyOf } from "./spread";

type Cell = string | number | null;

/** A table of rows that are looked up when they are in sight. */
function tableOf<Row>(
  caption: string,
  columns: readonly (readonly [label: string, cell: (row: Row) => Cell, format?: TableColumn["format"]])[],
  rows: readonly Row[],
): TableModel {
  return {
    caption,
    columns: columns.map(([label, , format]) => ({ label, ...(format ? { format } : {}) })),
    rowCount: rows.length,
    cell: (row, column) => columns[column]![1](rows[row]!),
  };
}

const rate = (value: number | null): string => decimal(value, 3);
const seconds = duration;

/** One row a worker, in the order of `places`. */
export function workerTable({ workers }: WorkersPanelData, places: readonly number[]): TableModel {
  return tableOf(
    t("Workers of this run"),
    [
      [t("Worker"), ({ name }) => name],
      [t("Host"), ({ host }) => host],
      [t("State"), ({ state, reason, tile }) => (reason === null ? (tile ?? state) : t("not eligible: {0}", reason))],
      [t("Threads"), ({ threads }) => (threads > 0 ? threads : null), count],
      // Only where somebody keeps to some.
      ...(workers.some(({ layers }) => layers !== null)
        ? [[t("Layers"), ({ layers }: PanelWorker) => layers ?? t("all")] as const]
        : []),
      [t("Tiles"), ({ tiles }) => tiles, count],
      [t("Repeated"), ({ repeated }) => repeated, count],
      [t("Tokens/s"), ({ tokensPerSecond }) => tokensPerSecond, rate],
      [t("Busy"), busyShare, percent],
      [t("Efficiency"), efficiencyOf, percent],
      [t("There"), ({ presentSeconds }) => presentSeconds, seconds],
    ],
    places.map((place) => workers[place]!),
  );
}

/** One row a pass. */
export function passTable({ passes }: WorkersPanelData): TableModel {
  return tableOf(
    t("Passes over tiles"),
    [
      [t("Pass"), ({ pass }) => pass],
      [t("Tiles done"), ({ done }) => done, count],
      [t("Left"), ({ left }) => left, count],
      [t("Repeated"), ({ repeated }) => repeated, count],
      [t("Time of tiles"), ({ tileSeconds }) => tileSeconds, seconds],
      [t("Time from first to last"), ({ wallSeconds }) => wallSeconds, seconds],
      [
        t("Workers at work, mean"),
        ({ tileSeconds, wallSeconds }) => (wallSeconds > 0 ? tileSeconds / wallSeconds : null),
        (value) => decimal(value, 3),
      ],
    ],
    passes,
  );
}

/** One row a finished tile of these workers, in order of time. */
export function tileTable({ workers, passes, tiles, units }: WorkersPanelData, shown: ReadonlySet<number>): TableModel {
  const rows = [...tiles.worker.keys()].filter((i) => shown.has(tiles.worker[i]!));
  return tableOf(
    t("Finished tiles"),
    [
      [t("Worker"), (i) => workers[tiles.worker[i]!]!.name],
      [t("Pass"), (i) => passes[tiles.pass[i]!]!.pass],
      [t("Unit"), (i) => units[tiles.unit[i]!] ?? ""],
      [t("From"), (i) => tiles.from[i]!, count],
      [t("To"), (i) => tiles.to[i]!, count],
      [t("Began, s"), (i) => tiles.start[i]!, rate],
      [t("Took"), (i) => tiles.seconds[i]!, seconds],
      [t("Processor time"), (i) => tiles.processorSeconds[i]!, seconds],
      [t("Tokens"), (i) => tiles.tokens[i]!, count],
      [t("Result"), (i) => tiles.bytes[i]!, bytes],
      [t("Repeated"), (i) => (tiles.repeated[i] === 1 ? t("repeated") : "")],
    ],
    rows,
  );
}
