import { element } from "./dom";
import aside from "./aside.css";
import lanes from "./charts/lanes.css";
import css from "./style.css";

/** Adds the pages' style sheet, marked with the nonce that the host put into the shell. */
export function addStyle(): void {
  const style = element("style", { nonce: nonceOfShell() });
  style.textContent = css + aside + lanes;
  document.head.append(style);
}

function nonceOfShell(): string {
  return document.querySelector('meta[property="csp-nonce"]')?.getAttribute("content") ?? "";
}
