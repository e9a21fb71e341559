/** What a person does in VS Code, in Playwright's words. */
import { chromium, type Browser, type Frame, type Locator, type Page } from "playwright-core";

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
}

/** Opens a folder and waits until the explorer shows `file`. */
export async function openFolder(page: Page, url: string, folder: string, file: string): Promise<void> {
  await page.goto(`${url}/?folder=${encodeURIComponent(folder)}`);
  await explorerItem(page, file).waitFor({ timeout: 60_000 });
}

export function explorerItem(page: Page, name: string): Locator {
  return page.locator(".explorer-folders-view .monaco-list-row", { has: page.getByText(name, { exact: true }) });
}

export function activityBarItem(page: Page, name: string): Locator {
  return page.locator(".activitybar .action-item").filter({ has: page.locator(`[aria-label="${name}"]`) });
}

/** Rows of the tree with this heading in the side bar. */
export function treeRows(page: Page, view: string): Locator {
  return page
    .locator(".pane", { has: page.locator(`.pane-header[aria-label^="${view}"]`) })
    .locator(".monaco-list-row");
}

/** Labels of the palette's rows for what was typed; the palette stays open. */
export async function searchPalette(page: Page, text: string): Promise<string[]> {
  await page.keyboard.press("F1");
  const input = page.locator(".quick-input-widget input.input");
  await input.waitFor();
  await input.fill(`>${text}`);
  const rows = page.locator(".quick-input-list .monaco-list-row .label-name");
  await rows.first().waitFor();
  await page.waitForTimeout(300); // the list is filtered a moment after the last key
  return (await rows.allTextContents()).map((label) => label.trim());
}

/** Runs a command from the palette by its full title ("Category: Title"). */
export async function runCommand(page: Page, title: string): Promise<void> {
  await page.keyboard.press("F1");
  const input = page.locator(".quick-input-widget input.input");
  await input.waitFor();
  await input.fill(`>${title}`);
  await page.locator(".quick-input-list .monaco-list-row", { hasText: title }).first().click();
}

/** Opens an explorer entry's context menu and returns its labels; the menu stays open. */
export async function contextMenu(page: Page, name: string): Promise<string[]> {
  await explorerItem(page, name).click({ button: "right" });
  const items = menuItems(page);
  await items.first().waitFor();
  await page.waitForTimeout(250); // a VS Code menu ignores the mouse for its first 100 ms
  return (await items.allTextContents()).map((label) => label.trim());
}

export function menuItems(page: Page): Locator {
  return page.locator(".monaco-menu .action-item:not(.disabled) .action-label:not(.separator)");
}

/** The quick pick or input box that a command asks with. */
export function quickInput(page: Page) {
  const widget = page.locator(".quick-input-widget");
  return {
    title: widget.locator(".quick-input-title"),
    rows: widget.locator(".quick-input-list .monaco-list-row"),
    back: widget
      .locator(".quick-input-titlebar .codicon-quick-input-back, .quick-input-titlebar .action-label")
      .first(),
    message: widget.locator(".quick-input-message"),
    input: widget.locator("input.input"),
    /** Clicks the row whose label begins so. */
    choose: (label: string) => {
      const beginning = new RegExp(`^\\s*${label.replaceAll(".", "\\.")}`);
      const name = page.locator(".label-name", { hasText: beginning });
      return widget.locator(".quick-input-list .monaco-list-row").filter({ has: name }).first().click();
    },
  };
}

/**
 * The inner document (iframe.webview > iframe#active-frame) of the webview whose <body> is marked data-view. VS Code
 * gives no webview a stable id, so the page's own mark finds it.
 */
export async function webview(page: Page, view: string, timeoutMs = 30_000): Promise<Frame> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    for (const frame of page.frames().filter((f) => f.parentFrame()?.parentFrame() === page.mainFrame())) {
      const count = await frame
        .locator(`body[data-view="${view}"]`)
        .count()
        .catch(() => 0);
      if (count > 0) return frame;
    }
    if (Date.now() > deadline) throw new Error(`no webview "${view}" within ${timeoutMs} ms`);
    await page.waitForTimeout(50);
  }
}
