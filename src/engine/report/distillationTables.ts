import type { DistillationArm, DistillationFile } from "../../protocol/distillation";
import type { Estimate } from "../../protocol/evaluation";
import { formatCount, formatNumber, formatPercent } from "../../protocol/quantities";
import { formatEstimate, formatOptional, halfWidthOf } from "./format";

/** One figure of distillation.json: a table, and the lines of its chart. */
export interface DistillationTable {
  title: string;
  xAxis: string;
  yAxis: string;
  head: string[];
  rows: string[][];
  series: { name: string; points: { x: number; y: number; halfWidth95?: number }[] }[];
}

/** The figures that a distillation.json has, in the order of the paper. */
export function distillationTables(file: DistillationFile): DistillationTable[] {
  return [...gateMassTables(file), ...activeTables(file), ...armTables(file), ...routerKlTables(file)];
}

/** A row a point, at full precision. */
export function distillationCsv(file: DistillationFile): string {
  const quoted = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = distillationTables(file).flatMap(({ title, xAxis, yAxis, series }) =>
    series.flatMap(({ name, points }) =>
      points.map(({ x, y, halfWidth95 }) => [
        ...[title, name, xAxis].map(quoted),
        ...[String(x), quoted(yAxis), String(y), String(halfWidth95 ?? "")],
      ]),
    ),
  );
  const head = ["figure", "series", "x is", "x", "y is", "y", "half width 95 %"];
  return [head, ...rows].map((row) => `${row.join(",")}\r\n`).join("");
}

function gateMassTables({ probe }: DistillationFile): DistillationTable[] {
  if (!probe) return [];
  const rows = probe.gateMass.map(({ layer, activated, sorted }) => ({
    ...{ layer, activated, others: sorted.reduce((sum, value) => sum + value, 0) - activated, first: sorted[0]! },
  }));
  const line = (name: string, y: (row: (typeof rows)[number]) => number) => ({
    ...{ name, points: rows.map((row) => ({ x: row.layer, y: y(row) })) },
  });
  return [
    {
      title: "Gate mass by layer",
      ...{ xAxis: "layer", yAxis: "share of router probability" },
      head: ["Layer", "Activated", "Others", "Largest"],
      rows: rows.map((row) => [String(row.layer), ...[row.activated, row.others, row.first].map(formatPercent)]),
      series: [line("activated", ({ activated }) => activated), line("others", ({ others }) => others)],
    },
  ];
}

function activeTables({ probe }: DistillationFile): DistillationTable[] {
  if (!probe) return [];
  const { rows, ownActive, studentLoss } = probe;
  const lines = [
    { name: "loss of the teacher", head: "Loss", of: (row: (typeof rows)[number]) => row.loss },
    { name: "KL of its own routing to it", head: "KL of own routing to it", of: (row) => row.klToOwn },
    ...(studentLoss
      ? [
          {
            ...{ name: "KL of it to the student", head: "KL of it to the student" },
            of: (row: (typeof rows)[number]) => row.klOfStudent!,
          },
        ]
      : []),
  ] satisfies { name: string; head: string; of: (row: (typeof rows)[number]) => Estimate }[];
  return [
    {
      title: "Quality by active experts",
      ...{ xAxis: "active experts", yAxis: "nats a token" },
      head: ["Active experts", ...lines.map(({ head }) => head)],
      rows: rows.map((row) => [
        `${row.active}${row.active === ownActive ? " (own)" : ""}`,
        ...lines.map(({ of }) => formatEstimate(of(row))),
      ]),
      series: lines.map(({ name, of }) => ({ name, points: rows.map((row) => pointOf(row.active, of(row))) })),
    },
  ];
}

function armTables({ arms: figure }: DistillationFile): DistillationTable[] {
  if (!figure) return [];
  const { arms, baseline, before } = figure;
  const seconds = (value: number | null) => formatOptional(value, (s) => `${s.toFixed(1)} s`);
  const isScored = arms.some(({ rougeL }) => rougeL);
  const score = (cell: string) => (isScored ? [cell] : []);
  const head = ["Arm", "Teacher", "KL to the teacher", "Loss", ...score("ROUGE-L"), `KL minus ${baseline}`];
  const none = ["–", "–", "–", "–"];
  const untrained = before
    ? [
        ["untrained", "–", formatEstimate(before.klToTeacher), formatEstimate(before.nllPerToken)].concat(
          score("–"),
          none,
        ),
      ]
    : [];
  const all: DistillationTable = {
    title: "Students by how they were taught",
    ...{ xAxis: "arm", yAxis: "KL to the teacher, nats a token" },
    head: [...head, "Teacher's time", "Writing", "In all"],
    rows: [
      ...untrained,
      ...arms.map((arm) => [
        arm.seeds.length > 1 ? `${arm.name} (${arm.seeds.length} seeds)` : arm.name,
        taughtBy(arm),
        ...[formatEstimate(arm.klToTeacher), formatEstimate(arm.nllPerToken)],
        ...score(arm.rougeL ? formatScore(arm.rougeL) : "–"),
        arm.difference ? differenceOf(arm.difference) : "–",
        ...[arm.teacherSeconds, arm.writingSeconds, arm.seconds].map(seconds),
      ]),
    ],
    series: arms.map(({ name, klToTeacher }, i) => ({ name, points: [pointOf(i, klToTeacher)] })),
  };
  const draws = arms.filter(({ routing }) => routing === "augment");
  const numbers = arms.filter(({ routing, active }) => routing === "active" && active > 0);
  return [
    all,
    ...byNumber("Students by the teacher's active experts", "active experts", numbers, ({ active }) => active),
    ...byNumber("Students by draws of Knowledge Augmentation", "draws", draws, (arm) => arm.draws),
    ...scoresByDraws(draws),
  ];
}

/** The paper's fourth figure: the mean score by draws. */
function scoresByDraws(arms: readonly DistillationArm[]): DistillationTable[] {
  const scored = arms.flatMap((arm) => (arm.rougeL ? [{ ...arm, rougeL: arm.rougeL }] : []));
  if (scored.length === 0) return [];
  const groups = groupsOf(scored, ({ draws }) => draws);
  return [
    {
      ...{ title: "ROUGE-L by draws of Knowledge Augmentation", xAxis: "draws", yAxis: "ROUGE-L F x 100" },
      head: ["Draws", "Divergence, data", "ROUGE-L", "Responses"],
      rows: groups.flatMap(([name, group]) =>
        group.map(({ draws, rougeL }) => [
          ...[formatCount(draws), name, formatScore(rougeL), formatCount(rougeL.responses)],
        ]),
      ),
      series: groups.map(([name, group]) => ({
        ...{ name, points: group.map(({ draws, rougeL }) => ({ x: draws, y: rougeL.mean })) },
      })),
    },
  ];
}

/** Arms by divergence and data, each group in the order of a number. */
function groupsOf<T extends DistillationArm>(arms: readonly T[], x: (arm: T) => number): [string, T[]][] {
  const groups = new Map<string, T[]>();
  for (const arm of arms) {
    const name = `${arm.divergence}, ${arm.onPolicy > 0 ? "on-policy" : "text"}`;
    groups.set(name, [...(groups.get(name) ?? []), arm]);
  }
  return [...groups].map(([name, group]) => [name, group.sort((a, b) => x(a) - x(b))]);
}

/** Arms that differ in one number alone as lines, one for each way of divergence and data. */
function byNumber(
  title: string,
  xAxis: string,
  arms: readonly DistillationArm[],
  x: (arm: DistillationArm) => number,
): DistillationTable[] {
  const groups = groupsOf(arms, x);
  if (groups.length === 0) return [];
  return [
    {
      ...{ title, xAxis, yAxis: "KL to the teacher, nats a token" },
      head: [formatHead(xAxis), "Divergence, data", "KL to the teacher", "Loss"],
      rows: groups.flatMap(([name, group]) =>
        group.map((arm) => [
          ...[formatCount(x(arm)), name],
          ...[formatEstimate(arm.klToTeacher), formatEstimate(arm.nllPerToken)],
        ]),
      ),
      series: groups.map(([name, group]) => ({
        ...{ name, points: group.map((arm) => pointOf(x(arm), arm.klToTeacher)) },
      })),
    },
  ];
}

function routerKlTables({ routerKl }: DistillationFile): DistillationTable[] {
  const last = routerKl?.evaluations.at(-1);
  if (!routerKl || !last) return [];
  const series = routerKl.evaluations.map(({ step, kl }) => ({
    ...{ name: `after ${step} updates`, points: routerKl.layers.map((layer, i) => ({ x: layer, y: kl[i]! })) },
  }));
  return [
    {
      title: "Routers that trained with the student",
      ...{ xAxis: "layer", yAxis: "KL of the teacher's own routers to them, nats" },
      head: ["Layer", ...routerKl.evaluations.map(({ step }) => `After ${step} updates`)],
      rows: routerKl.layers.map((layer, i) => [
        ...[String(layer), ...routerKl.evaluations.map(({ kl }) => formatNumber(kl[i]!))],
      ]),
      series,
    },
  ];
}

function taughtBy({ routing, active, draws, divergence, onPolicy }: DistillationArm): string {
  const experts = routing === "own" ? "own routing" : `${active} experts`;
  const how =
    routing === "augment"
      ? `, ${draws} draw${draws === 1 ? "" : "s"}`
      : routing === "student-aware"
        ? ", student-aware"
        : "";
  return `${divergence}, ${onPolicy > 0 ? `${formatPercent(onPolicy)} on-policy` : "text"}, ${experts}${how}`;
}

function formatScore({ mean, deviation }: NonNullable<DistillationArm["rougeL"]>): string {
  return `${mean.toFixed(2)} ± ${deviation.toFixed(2)}`;
}

function differenceOf({ mean, interval95: [low, high] }: NonNullable<DistillationArm["difference"]>): string {
  const signed = (value: number) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;
  return `${signed(mean)} (${signed(low)} to ${signed(high)})`;
}

function pointOf(x: number, estimate: Estimate) {
  const half = halfWidthOf(estimate);
  return { x, y: estimate.mean, ...(half === null ? {} : { halfWidth95: half }) };
}

function formatHead(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
