import type { RunWorkers, TileInHand, TimelineLine, WorkerStatus } from "../../protocol/workers";
import type { PanelWorker, WorkersPanelData } from "../../protocol/workersPanel";
import { readRunWorkers } from "../run/tiles/timelineFile";

type TileLine = Extract<TimelineLine, { kind: "tile" }>;

/** The Workers page of a run or comparison; null where its work was never spread. */
export async function workersPanel(runDirectory: string): Promise<WorkersPanelData | null> {
  const found = await readRunWorkers(runDirectory);
  return found === null ? null : spreadOf(found);
}

/** Status and timeline as the page shows them. Definitions are in definitions.ts. */
export function spreadOf({ status, timeline }: RunWorkers): WorkersPanelData {
  const lines = timeline.filter((line): line is TileLine => line.kind === "tile");
  const tiles = [...lines].sort((a, b) => Date.parse(a.start) - Date.parse(b.start));
  const [first] = tiles;
  const startMs = Date.parse(first?.start ?? status.at);
  const seconds = (at: string) => (Date.parse(at) - startMs) / 1000;
  const lastEnd = tiles.reduce((latest, { end }) => Math.max(latest, seconds(end)), 0);
  const total = status.running ? Math.max(lastEnd, seconds(status.at)) : lastEnd;
  const present = presence(timeline, seconds, total);

  const names = [...new Set([...status.workers.map(({ name }) => name), ...timeline.map(({ worker }) => worker)])];
  names.sort(byNumber.compare);
  const placeOf = new Map(names.map((name, i) => [name, i]));
  const known = new Map(status.workers.map((worker) => [worker.name, worker]));
  const byWorker = names.map((): TileLine[] => []);
  for (const tile of tiles) byWorker[placeOf.get(tile.worker)!]!.push(tile);
  const counted = firstOfEach(tiles);
  const workers = names.map((name, i) =>
    panelWorker(name, known.get(name), byWorker[i]!, counted, present.get(name) ?? 0),
  );

  const passes = [...status.passes];
  for (const { pass } of tiles)
    if (!passes.some((one) => one.pass === pass))
      passes.push(
        passOf(
          pass,
          tiles.filter((tile) => tile.pass === pass),
        ),
      );
  const places = new Map(passes.map(({ pass }, i) => [pass, i]));
  const units = [...new Set(tiles.map(unitOf))];
  const column = (of: (tile: TileLine) => number) => tiles.map((tile) => rounded(of(tile)));
  return {
    running: status.running,
    queue: status.queue,
    about: status.about,
    start: new Date(startMs).toISOString(),
    seconds: rounded(total),
    workers,
    passes,
    tiles: {
      worker: column(({ worker }) => placeOf.get(worker)!),
      pass: column(({ pass }) => places.get(pass)!),
      start: column(({ start }) => seconds(start)),
      seconds: column((tile) => secondsOf(tile)),
      processorSeconds: column((tile) => tile.processorSeconds),
      tokens: column((tile) => tile.tokens),
      bytes: column((tile) => tile.bytes),
      repeated: column((tile) => Number(tile.repeated)),
      from: column(({ bounds }) => bounds.from),
      to: column(({ bounds }) => bounds.to),
      unit: column((tile) => units.indexOf(unitOf(tile))),
    },
    units,
    events: timeline.flatMap((line) =>
      line.kind === "worker"
        ? [{ worker: placeOf.get(line.worker)!, at: rounded(seconds(line.at)), event: line.event }]
        : [],
    ),
    ...sharesOf(workers),
  };
}

/** Share of processor time that was of use, and of time that was spent on tiles, over workers whose threads are known. */
function sharesOf(workers: readonly PanelWorker[]): Pick<WorkersPanelData, "efficiency" | "busy"> {
  const counted = workers.filter(({ threads, reason }) => threads > 0 && reason === null);
  const sum = (of: (worker: PanelWorker) => number) => counted.reduce((all, worker) => all + of(worker), 0);
  const processors = sum(({ threads, presentSeconds }) => threads * presentSeconds);
  const there = sum(({ presentSeconds }) => presentSeconds);
  return {
    efficiency: processors > 0 ? sum(({ processorSeconds }) => processorSeconds) / processors : null,
    busy: there > 0 ? sum(({ tileSeconds }) => tileSeconds) / there : null,
  };
}

/**
 * Seconds that each worker was there between the first tile's start and the end. Who comes a second time without having left was
 * cut off with the coordinator: until the last line before that.
 */
function presence(
  timeline: readonly TimelineLine[],
  seconds: (at: string) => number,
  total: number,
): Map<string, number> {
  const there = new Map<string, number>();
  const since = new Map<string, number>();
  const within = (at: number) => Math.min(total, Math.max(0, at));
  const end = (worker: string, at: number) => {
    const from = since.get(worker);
    if (from === undefined) return;
    there.set(worker, (there.get(worker) ?? 0) + Math.max(0, within(at) - within(from)));
    since.delete(worker);
  };
  let last = 0;
  for (const line of timeline) {
    if (line.kind === "tile") {
      // Its coming is told a moment later, or was taken away with older lines.
      if (!since.has(line.worker)) since.set(line.worker, seconds(line.start));
      last = Math.max(last, seconds(line.end));
      continue;
    }
    const at = seconds(line.at);
    end(line.worker, line.event === "joined" ? Math.min(at, last) : at);
    if (line.event === "joined") since.set(line.worker, at);
    last = Math.max(last, at);
  }
  for (const worker of [...since.keys()]) end(worker, total);
  return there;
}

function panelWorker(
  name: string,
  status: WorkerStatus | undefined,
  tiles: readonly TileLine[],
  counted: ReadonlySet<TileLine>,
  presentSeconds: number,
): PanelWorker {
  const sum = (of: (tile: TileLine) => number) => rounded(tiles.reduce((all, tile) => all + of(tile), 0));
  const inHand = status?.tile ?? null;
  return {
    name,
    host: status?.host ?? "",
    threads: status?.threads ?? 0,
    about: status?.about ?? "",
    state: status?.state ?? "left",
    reason: status?.eligible === false ? (status.reason ?? "") : null,
    layers: status?.layers ?? null,
    tile: inHand && `${inHand.pass}, ${unitOf(inHand)} ${inHand.bounds.from} to ${inHand.bounds.to}`,
    tiles: tiles.length,
    repeated: tiles.filter(({ repeated }) => repeated).length,
    tokensPerSecond: status?.tokensPerSecond ?? null,
    presentSeconds: rounded(Math.max(presentSeconds, 0)),
    tileSeconds: sum(secondsOf),
    processorSeconds: sum((tile) => (counted.has(tile) ? tile.processorSeconds : 0)),
  };
}

/** A tile that was done twice counts once. */
function firstOfEach(tiles: readonly TileLine[]): ReadonlySet<TileLine> {
  const byKey = new Map<string, TileLine>();
  for (const tile of tiles) if (!byKey.has(tile.tile)) byKey.set(tile.tile, tile);
  return new Set(byKey.values());
}

/** A pass that the status no longer has: of the run before it was resumed. */
function passOf(pass: TileLine["pass"], tiles: readonly TileLine[]) {
  const starts = tiles.map(({ start }) => Date.parse(start));
  const ends = tiles.map(({ end }) => Date.parse(end));
  const most = (values: number[]) => values.reduce((a, b) => Math.max(a, b));
  return {
    ...{ pass, done: tiles.length, left: 0, repeated: tiles.filter(({ repeated }) => repeated).length },
    tileSeconds: rounded(tiles.reduce((all, tile) => all + secondsOf(tile), 0)),
    wallSeconds: rounded((most(ends) + most(starts.map((at) => -at))) / 1000),
  };
}

/** What bounds count, and in which part of the layers. */
const unitOf = ({ bounds: { unit }, layers }: TileInHand) =>
  layers === undefined ? unit : `layers ${layers}, ${unit}`;

const secondsOf = ({ start, end }: TileLine) => (Date.parse(end) - Date.parse(start)) / 1000;

/** Milliseconds are as fine as the files are. */
const rounded = (value: number) => Math.round(value * 1000) / 1000;

/** "node-9" before "node-10". */
const byNumber = new Intl.Collator("en", { numeric: true });
