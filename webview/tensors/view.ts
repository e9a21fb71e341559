import type { TensorRow } from "../../src/protocol/checkpointSummary";
import type { TensorsData } from "../../src/protocol/pageData";
import { element } from "../common/dom";
import { exportMenu } from "../common/exportMenu";
import { bytes, count } from "../common/format";
import type { PageServices, View } from "../common/page";
import type { TableModel } from "../common/tableModel";
import { TableView } from "../common/tableView";
import { textField } from "../common/toolkit";
import { arrangeRows, tensorColumns, type Ordering, type TensorColumn } from "./rows";
import { StatisticsPanel } from "./statistics";
import { StructurePanel } from "./structure";
import { t } from "../common/translate";

const labels: Record<TensorColumn, string> = {
  name: "Name",
  shape: t("Shape"),
  dtype: t("Data type"),
  bytes: t("Bytes"),
  shard: t("Shard"),
};
/** Sorting 100,000 names takes a moment: do it once typing pauses. */
const filterDelayMs = 120;

/** The tensor table of a .safetensors file, with the structure of its checkpoint and statistics on demand. */
export class TensorsView implements View<"tensors"> {
  readonly element: HTMLElement;
  private data: TensorsData | undefined;
  private rows: Uint32Array = new Uint32Array();
  private ordering: Ordering | null = null;
  private timer = 0;
  private readonly total = element("p", { class: "muted", "data-total": true, role: "status" });
  private readonly structure = new StructurePanel();
  private readonly statistics: StatisticsPanel;
  private readonly tableHost = element("div", { "data-table": true });
  private table: TableView | undefined;

  constructor(private readonly services: PageServices) {
    this.statistics = new StatisticsPanel(services);
    const filter = textField(
      t("Filter tensors"),
      t("Filter by name, type or shard"),
      services.persisted.text("filter"),
      (text) => {
        services.persisted.set("filter", text);
        window.clearTimeout(this.timer);
        this.timer = window.setTimeout(() => {
          this.arrange();
        }, filterDelayMs);
      },
    );
    const exports = exportMenu(
      () =>
        this.data
          ? { title: t("Tensors of {0}", this.data.file), table: this.model(this.data.tensors), png: null }
          : null,
      services,
      false,
    );
    this.element = element(
      "div",
      {},
      this.structure.element,
      element("div", { class: "toolbar" }, filter, exports),
      this.total,
      this.tableHost,
      this.statistics.element,
    );
  }

  show(data: TensorsData): void {
    this.data = data;
    this.structure.show(data);
    this.statistics.available = data.statisticsAvailable;
    this.arrange();
  }

  private arrange(): void {
    const { data } = this;
    if (!data) return;
    this.rows = arrangeRows(data.tensors, this.services.persisted.text("filter"), this.ordering);
    let size = 0;
    for (const row of this.rows) size += data.tensors[row]!.bytes;
    const shown = this.rows.length === data.tensors.length ? "" : ` of ${count(data.tensors.length)}`;
    this.total.textContent =
      data.tensors.length === 0
        ? t("The file holds no tensors.")
        : t(
            "{0}{1} tensors, {2}. Enter on a row computes its statistics.",
            count(this.rows.length),
            shown,
            bytes(size),
          );
    this.drawTable(data.tensors);
  }

  private drawTable(tensors: readonly TensorRow[]): void {
    const options = {
      visibleRows: 22,
      open: (row: number) => {
        const tensor = tensors[this.rows[row]!];
        if (tensor) this.statistics.open(tensor);
      },
      sort: (column: number) => {
        const name = tensorColumns[column]!;
        const same = this.ordering?.column === name;
        this.ordering = { column: name, descending: same && !this.ordering!.descending };
        this.arrange();
      },
      ...(this.ordering
        ? { sorted: { column: tensorColumns.indexOf(this.ordering.column), descending: this.ordering.descending } }
        : {}),
    };
    if (this.table) this.table.show(this.model(tensors), options);
    else {
      this.table = new TableView(this.model(tensors), options);
      this.tableHost.append(this.table.element);
    }
  }

  private model(tensors: readonly TensorRow[]): TableModel {
    return {
      caption: t("Tensors of the file"),
      columns: tensorColumns.map((column) => ({
        label: labels[column],
        ...(column === "bytes" ? { format: count } : {}),
      })),
      rowCount: this.rows.length,
      cell: (row, column) => {
        const tensor = tensors[this.rows[row]!]!;
        const name = tensorColumns[column]!;
        return name === "shape" ? `[${tensor.shape.join(", ")}]` : tensor[name];
      },
    };
  }
}
