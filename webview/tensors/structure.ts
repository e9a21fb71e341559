import type { CheckpointSummary, LayerSummary } from "../../src/protocol/checkpointSummary";
import type { TensorsData } from "../../src/protocol/pageData";
import { element } from "../common/dom";
import { facts } from "../common/facts";
import { bytes, count, parameters } from "../common/format";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { untrusted } from "../common/untrusted";
import { t } from "../common/translate";

/** What the checkpoint is made of: size, family, and its MoE layers. */
export class StructurePanel {
  readonly element = element("section", {});

  show({ summary, summaryError }: TensorsData): void {
    if (!summary) {
      this.element.replaceChildren(
        element(
          "p",
          { class: "notice" },
          t("Only the file's own tensors are known. "),
          untrusted(summaryError ?? t("There is no config.json beside it."), 300),
        ),
      );
      return;
    }
    const list = element("dl", { class: "facts" });
    facts(list, rowsOf(summary));
    const layers = summary.layers.filter((layer): layer is MoeLayer => layer.moe !== null);
    const details = element(
      "details",
      {},
      element("summary", {}, t("{0} MoE layers of {1}", layers.length, summary.layers.length)),
      new TableView(modelOf(layers), { visibleRows: 12 }).element,
    );
    this.element.replaceChildren(
      ...(summary.unsupportedReason === null
        ? []
        : [element("p", { class: "notice warning" }, untrusted(summary.unsupportedReason, 300))]),
      list,
      ...(layers.length > 0 ? [details] : []),
    );
  }
}

type MoeLayer = LayerSummary & { moe: NonNullable<LayerSummary["moe"]> };

function rowsOf(s: CheckpointSummary): (readonly [string, string | HTMLElement])[] {
  const experts = [...new Set(s.layers.flatMap(({ moe }) => (moe ? [moe.numExperts] : [])))];
  const active = s.parametersActive === null ? "" : t(", {0} active per token", parameters(s.parametersActive));
  return [
    [t("Family"), untrusted(s.modelType ?? "unknown", 60)],
    [t("Parameters"), `${parameters(s.parametersTotal)}${active}`],
    [t("Size"), `${bytes(s.bytes)} in ${count(s.shards)} ${s.shards === 1 ? "shard" : "shards"}`],
    [
      t("Experts per layer"),
      experts.length === 0 ? t("none: a dense model") : experts.sort((a, b) => a - b).join(", "),
    ],
    [t("Experts per token"), s.numExpertsPerToken === null ? "–" : String(s.numExpertsPerToken)],
    ...(s.provenance ? [[t("Made by Reroute"), provenance(s.provenance)] as const] : []),
  ];
}

function provenance({ kind, method, teacherPath }: NonNullable<CheckpointSummary["provenance"]>): HTMLElement {
  return element(
    "span",
    {},
    `${kind}, `,
    untrusted(method ?? t("no compression"), 40),
    ", teacher ",
    untrusted(teacherPath, 120),
  );
}

function modelOf(layers: readonly MoeLayer[]): TableModel {
  const columns: [string, (layer: MoeLayer) => string | number | null, ((v: number | null) => string)?][] = [
    [t("Layer"), ({ index }) => index, String],
    [t("Experts"), ({ moe }) => moe.numExperts, count],
    [t("Router tensor"), ({ moe }) => moe.routerTensor],
    [t("Router parameters"), ({ moe }) => moe.router.parameters, parameters],
    [t("Expert parameters"), ({ moe }) => moe.experts.parameters, parameters],
    [t("Expert bytes"), ({ moe }) => moe.experts.bytes, bytes],
    [t("Shared-expert parameters"), ({ moe }) => moe.sharedExperts?.parameters ?? null, parameters],
  ];
  return {
    caption: t("MoE layers"),
    columns: columns.map(([label, , format]) => ({ label, ...(format ? { format } : {}) })),
    rowCount: layers.length,
    cell: (row, column) => columns[column]![1](layers[row]!),
  };
}
