import { element } from "./dom";
import { cutMiddle, showInvisible } from "./text";
import { t } from "./translate";

/** A name from a file: isolated from the direction of what surrounds it, cut in the middle, with a button for the rest. */
export function untrusted(text: string, max = 80): HTMLElement {
  const full = showInvisible(text);
  const name = element("bdi", { class: "untrusted" }, cutMiddle(full, max));
  if (full.length <= max) return name;
  const button = element("button", { class: "link", type: "button", "aria-expanded": "false" }, t("show all"));
  button.addEventListener("click", () => {
    const expanded = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(expanded));
    button.textContent = expanded ? t("show less") : t("show all");
    name.textContent = expanded ? full : cutMiddle(full, max);
  });
  return element("span", { class: "untrusted-cut" }, name, " ", button);
}
