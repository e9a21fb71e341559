import { formatCount } from "../../protocol/quantities";
import type { Translate } from "../../protocol/translate";
import type { TileInHand, WorkerStatus } from "../../protocol/workers";

export interface HostNode {
  host: string;
  workers: WorkerStatus[];
}

/** A list of more workers than this is read by host. */
const mostFlat = 30;

/** Workers by host, where there are too many for one list; null: there are not. */
export function hostNodes(workers: readonly WorkerStatus[]): HostNode[] | null {
  if (workers.length <= mostFlat) return null;
  const byHost = new Map<string, WorkerStatus[]>();
  for (const worker of workers) byHost.set(worker.host, [...(byHost.get(worker.host) ?? []), worker]);
  return [...byHost]
    .map(([host, all]) => ({ host, workers: all }))
    .sort((a, b) => a.host.localeCompare(b.host, "en", { numeric: true }));
}

/** What a row says of a worker: what it does, how fast, and why it may not, most telling first. */
export function workerFacts(worker: WorkerStatus, t: Translate): { description: string; state: string; icon: string } {
  const { eligible, reason, state, tile, tokensPerSecond, host, layers } = worker;
  const does =
    state === "lost"
      ? t("lost")
      : state === "left"
        ? t("left")
        : tile === null
          ? t("idle")
          : t("works on {0}", tileWords(tile, t));
  const may = eligible ? does : t("not eligible: {0}", reason ?? "");
  const rate = tokensPerSecond === null ? [] : [t("{0} tokens/s", formatCount(tokensPerSecond))];
  const kept = layers === undefined ? [] : [t("keeps to layers {0}", layers)];
  const icons = { idle: "circle-outline", working: "sync", lost: "debug-disconnect", left: "circle-slash" } as const;
  return {
    state: may,
    description: [may, ...rate, host, threadWords(worker, t), ...kept].join(" · "),
    icon: eligible ? icons[state] : "warning",
  };
}

export function threadWords({ threads }: Pick<WorkerStatus, "threads">, t: Translate): string {
  return threads === 1 ? t("1 thread") : t("{0} threads", threads);
}

export function tileWords({ pass, bounds: { unit, from, to }, layers }: TileInHand, t: Translate): string {
  const what = { sequences: t("sequences"), batch: t("sequences of a batch"), layers: t("layers") }[unit];
  const where = layers === undefined ? what : t("layers {0}, {1}", layers, what);
  return t("{0}, {1} {2} to {3}", pass, where, from, to);
}

/** "8 workers, 6 working, 1 not eligible, 1160 tokens/s" */
export function summaryOf(workers: readonly WorkerStatus[], t: Translate): string {
  const number = (of: (worker: WorkerStatus) => boolean) => workers.filter(of).length;
  const rate = workers.reduce(
    (sum, { state, eligible, tokensPerSecond }) => sum + (eligible && state === "working" ? (tokensPerSecond ?? 0) : 0),
    0,
  );
  const counts: [number, string][] = [
    [number(({ state }) => state === "working"), t("working")],
    [number(({ state }) => state === "lost"), t("lost")],
    [number(({ eligible }) => !eligible), t("not eligible")],
  ];
  return [
    workers.length === 1 ? t("1 worker") : t("{0} workers", workers.length),
    ...counts.flatMap(([count, word]) => (count > 0 ? [`${count} ${word}`] : [])),
    ...(rate > 0 ? [t("{0} tokens/s", formatCount(rate))] : []),
  ].join(", ");
}
