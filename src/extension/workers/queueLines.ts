import { formatBytes, formatDuration, formatPercent } from "../../protocol/quantities";
import type { Preflight } from "../../protocol/run";
import { layerAdvice } from "../../protocol/layerAdvice";
import { spreadLimits, spreadSeconds, workersWorthTrying } from "../../protocol/spreadTimes";
import type { Translate } from "../../protocol/translate";
import type { QueueChoice, QueueStatus } from "../../protocol/workers";
import type { PreflightLine } from "../wizard/preflightLines";

/** What a run would take with so many machines like this one, and what holds it up then. */
export function spreadLines({ stages }: Pick<Preflight, "stages">, t: Translate): PreflightLine[] {
  const tried = workersWorthTrying(stages);
  if (tried.length < 2 || spreadSeconds(stages, 1) <= 0) return [];
  const times = tried.map((n) => t("{0}: {1}", n, formatDuration(spreadSeconds(stages, n))));
  const limits = spreadLimits(stages)
    .slice(0, 3)
    .map(({ stage, limit, share }) => t("{0} {1}: {2}", stage, formatPercent(share), limit));
  return [
    { kind: "fact", label: t("Workers like this machine, at best"), description: times.join(" · ") },
    { kind: "fact", label: t("What more do not shorten"), description: limits.join(" · ") },
  ];
}

/** Proposes to cut the passes over the text by layers, where workers would read the checkpoint again and again. */
export function layerLines(
  preflight: Pick<Preflight, "stages" | "bytesBefore" | "memoryBudgetBytes">,
  { workers }: Pick<QueueStatus, "workers">,
  { localWorkers = 1, layerParts }: Pick<QueueChoice, "localWorkers" | "layerParts">,
  t: Translate,
): PreflightLine[] {
  const own = Array.from({ length: localWorkers }, () => ({ memoryBytes: preflight.memoryBudgetBytes }));
  const advice = layerAdvice(preflight, [...workers.filter(({ eligible }) => eligible), ...own], layerParts);
  if (advice === null) return [];
  const { parts, neededBytes, memoryBytes, readBytesPerSecond } = advice;
  return [
    {
      kind: "warning",
      label: t("Layer parts"),
      description: t(
        "A worker needs {0} to keep the checkpoint at hand, the smallest has {1}: each would read {2} a second from storage. Set reroute.layerParts to {3}, and each reads its layers once",
        ...[formatBytes(neededBytes), formatBytes(memoryBytes), formatBytes(readBytesPerSecond), parts],
      ),
    },
  ];
}

/** What a pre-flight says of the queue that a run would be spread over: who would work on it, and what is wrong with it. */
export function queueLines(
  { queue, checks, workers }: Pick<QueueStatus, "queue" | "checks" | "workers">,
  { localWorkers = 1 }: Pick<QueueChoice, "localWorkers">,
  t: Translate,
): PreflightLine[] {
  const problems = checks.filter(({ state }) => state === "problem");
  if (problems.length > 0)
    return problems.map(({ detail, code = "queue/unavailable" }) => ({
      kind: "refusal",
      label: t("Cannot start"),
      description: `${detail} (${code})`,
      code,
    }));
  const eligible = workers.filter((worker) => worker.eligible);
  const others = workers.filter((worker) => !worker.eligible);
  const threads = eligible.reduce((sum, worker) => sum + worker.threads, 0);
  const local =
    localWorkers === 1 ? t("1 is started on this machine") : t("{0} are started on this machine", localWorkers);
  const lines: PreflightLine[] = [
    {
      kind: "fact",
      label: t("Workers"),
      description: t("{0} eligible at {1}, {2} threads; {3}", eligible.length, queue, threads, local),
    },
  ];
  for (const { name, reason } of others.slice(0, 3))
    lines.push({
      kind: "warning",
      label: t("Warning"),
      description: t("The worker {0} gets nothing of this run: {1}", name, reason ?? ""),
    });
  if (others.length > 3)
    lines.push({
      kind: "warning",
      label: t("Warning"),
      description: t("{0} more workers get nothing of this run", others.length - 3),
    });
  if (eligible.length === 0 && localWorkers === 0)
    lines.push({
      kind: "warning",
      label: t("Warning"),
      description: t("Nobody would work on it yet: the run waits until an eligible worker comes"),
    });
  return lines;
}
