import type { PageParams } from "../../src/protocol/pageMessages";
import { element } from "./dom";
import { request } from "./messaging";
import { messageOf, type PageServices } from "./page";
import { toCsv, type TableModel } from "./tableModel";
import { plainLabel } from "./text";
import { t } from "./translate";

export interface Exportable {
  title: string;
  table: TableModel;
  /** The drawing, or null for tables without one. */
  png: (() => HTMLCanvasElement) | null;
}

/** PNG (if something is drawn) and CSV buttons; the host asks where to save. */
export function exportMenu(current: () => Exportable | null, services: PageServices, drawn = true): HTMLElement {
  const save = (
    label: string,
    make: (shown: Exportable) => Omit<Parameters<typeof saveFile>[0], "fileName">,
  ): HTMLElement => {
    const button = element("button", { type: "button", class: "action" }, label);
    button.addEventListener("click", () => {
      const shown = current();
      if (!shown) return;
      const extension = label.toLowerCase();
      saveFile({ fileName: `${fileNameOf(`${services.title} ${shown.title}`)}.${extension}`, ...make(shown) }).then(
        ({ saved }) => {
          if (saved) services.announce(`${label} saved`);
        },
        (error: unknown) => {
          services.notify(t("{0} was not saved: {1}", label, messageOf(error)));
        },
      );
    });
    return button;
  };
  const csv = save("CSV", ({ table }) => ({ mime: "text/csv", encoding: "utf8", content: toCsv(table) }));
  const png = save("PNG", ({ png: draw }) => ({
    mime: "image/png",
    encoding: "base64",
    content: draw!()
      .toDataURL("image/png")
      .replace(/^data:image\/png;base64,/, ""),
  }));
  return element("span", { class: "figure-actions" }, drawn && png, csv);
}

export function saveFile(file: {
  fileName: string;
  mime: PageParams<"save">["mime"];
  encoding: "utf8" | "base64";
  content: string;
}): Promise<{ saved: boolean }> {
  return request("save", file);
}

/** Letters, digits and dashes only, so that no title can name another folder. */
export function fileNameOf(title: string): string {
  const words = plainLabel(title, 120)
    .toLowerCase()
    .match(/[\p{L}\p{N}]+/gu) ?? ["chart"];
  return words.join("-").slice(0, 100);
}
