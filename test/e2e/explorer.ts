/** The side bar's trees and their menus. */
import type { Locator, Page } from "playwright-core";
import { until } from "./codeServer";
import { appears, clearTheWay, click, tryClick } from "./pointer";

export function explorerItem(page: Page, name: string): Locator {
  return page.locator(".explorer-folders-view .monaco-list-row", { has: page.getByText(name, { exact: true }) });
}

/** Rows of the tree with this heading in the side bar. */
export function treeRows(page: Page, view: string): Locator {
  return page
    .locator(".pane", { has: page.locator(`.pane-header[aria-label^="${view}"]`) })
    .locator(".monaco-list-row");
}

/** Opens a row of a tree, unless it is open. */
export function expand(row: Locator): Promise<void> {
  return turn(row, "true");
}

/** Closes a row of a tree, unless it is closed. */
export function collapse(row: Locator): Promise<void> {
  return turn(row, "false");
}

async function turn(row: Locator, expanded: "true" | "false"): Promise<void> {
  const isTurned = async () =>
    (await row.getAttribute("aria-expanded", { timeout: 5000 }).catch(() => null)) === expanded;
  await until(async () => {
    if (await isTurned()) return true;
    const clicked = await tryClick(row.locator(".monaco-tl-twistie"));
    if (!clicked) await clearTheWay(row.page());
    // A second click would turn it back: the first one has its time to be drawn.
    else await until(isTurned, 5000).catch(() => undefined);
    return isTurned();
  });
}

/** Presses a button that a row shows while the mouse is over it, until what it leads to holds. */
export async function rowAction(row: Locator, label: string, leadsTo: Locator): Promise<void> {
  await until(async () => {
    if (await leadsTo.isVisible()) return true;
    const pressed = (await tryClick(row, "hover")) && (await tryClick(row.locator(`[aria-label="${label}"]`)));
    if (!pressed) await clearTheWay(row.page());
    return pressed && (await appears(leadsTo));
  }, 120_000);
}

/** Opens a file of the explorer in an editor of its own. */
export async function openFromExplorer(page: Page, name: string): Promise<void> {
  const tab = page.getByRole("tab", { name });
  await until(async () => {
    if (await tab.isVisible()) return true;
    await click(explorerItem(page, name), "dblclick");
    return appears(tab);
  }, 120_000);
}

/** Opens an explorer entry's context menu and returns its labels; the menu stays open. */
export async function contextMenu(page: Page, name: string): Promise<string[]> {
  const items = menuItems(page);
  let labels: string[] = [];
  // It closes by itself when the explorer draws itself again beneath it.
  await until(async () => {
    await closeMenu(page);
    await click(explorerItem(page, name), "rightClick");
    await appears(items.first(), 5000);
    labels = (await items.allTextContents()).map((label) => label.trim());
    return labels.length > 0;
  });
  return labels;
}

/** Closes whatever menu is open. */
export async function closeMenu(page: Page): Promise<void> {
  await until(async () => {
    if ((await menuItems(page).count()) === 0) return true;
    await page.keyboard.press("Escape");
    return false;
  });
}

/**
 * Chooses an entry of an explorer item's context menu, until what it leads to is there. A menu ignores the mouse for its
 * first 100 ms, and closes without having done anything when the explorer draws itself again beneath it.
 */
export async function chooseFromMenu(page: Page, name: string, label: string, leadsTo: Locator): Promise<void> {
  const item = menuItems(page).filter({ hasText: label });
  await until(async () => {
    if (await leadsTo.isVisible()) return true;
    if (!(await item.isVisible())) await contextMenu(page, name);
    await tryClick(item, "click", 2000);
    await item.waitFor({ state: "hidden", timeout: 1000 }).catch(() => undefined);
    return !(await item.isVisible()) && (await appears(leadsTo, 10_000));
  }, 120_000);
}

/**
 * Chooses an entry of a tree row's menu, until what it leads to holds. A list that draws itself again beneath the mouse opens another
 * row's menu: one without the entry is closed.
 */
export async function chooseFromRow(on: Locator, label: string, leadsTo: () => Promise<boolean>): Promise<void> {
  const item = menuItems(on.page()).filter({ hasText: label });
  await until(async () => {
    if (await leadsTo()) return true;
    if (!(await item.isVisible())) await tryClick(on, "rightClick");
    const chosen = (await appears(item, 3000)) && (await tryClick(item, "click", 2000));
    if (!chosen) await clearTheWay(on.page());
    return until(leadsTo, 5000).then(
      () => true,
      () => false,
    );
  }, 120_000);
}

function menuItems(page: Page): Locator {
  return page.locator(".monaco-menu .action-item:not(.disabled) .action-label:not(.separator)");
}
