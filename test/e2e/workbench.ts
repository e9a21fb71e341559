/** What a person does in VS Code, in Playwright's words. Every step waits for what it leads to, never for a while. */
import { chromium, type Browser, type Frame, type Locator, type Page } from "playwright-core";
import { until } from "./codeServer";
import { explorerItem } from "./explorer";
import { clearTheWay, click, tryClick } from "./pointer";

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
      ...["--disable-background-networking", "--disable-component-update", "--disable-sync"],
    ],
  });
}

/** Opens a folder, or a *.code-workspace file, and waits until the explorer shows `file`, if one is named. */
export async function openFolder(page: Page, url: string, folder: string, file: string | null): Promise<void> {
  const kind = folder.endsWith(".code-workspace") ? "workspace" : "folder";
  await page.goto(`${url}/?${kind}=${encodeURIComponent(folder)}`);
  if (file !== null) await explorerItem(page, file).waitFor();
}

export function activityBarItem(page: Page, name: string): Locator {
  // With a badge, what it counts stands behind the name.
  const label = page.locator(`[aria-label="${name}"], [aria-label^="${name} - "]`);
  return page.locator(".activitybar .action-item").filter({ has: label });
}

/** Shows a view container of the activity bar in the side bar, unless it is shown: another click would hide it. */
export async function showContainer(page: Page, name: string): Promise<void> {
  const item = activityBarItem(page, name);
  const isShown = async () => /\bchecked\b/.test((await item.getAttribute("class")) ?? "");
  await until(async () => {
    if (await isShown()) return true;
    const clicked = await tryClick(item);
    if (clicked) await until(isShown, 10_000).catch(() => undefined);
    else await clearTheWay(page);
    return isShown();
  });
}

/** Shows an editor that is open already. */
export async function showEditor(page: Page, title: string): Promise<void> {
  await click(page.getByRole("tab", { name: new RegExp(title) }));
}

/** Labels of the palette's rows for what was typed; the palette stays open. */
export async function searchPalette(page: Page, text: string): Promise<string[]> {
  await openPalette(page, text);
  const rows = page.locator(".quick-input-list .monaco-list-row .label-name");
  let labels: string[] = [];
  // The list is filtered a moment after the last key: until then it holds other commands.
  await until(async () => {
    labels = (await rows.allTextContents()).map((label) => label.trim());
    return (
      labels.length > 0 && labels.every((label) => label.startsWith(text.trim()) || label === "No matching results")
    );
  });
  return labels;
}

/**
 * Runs a command from the palette by its full title ("Category: Title"). Keys go to the palette's own input: a webview
 * that is being drawn may have taken the focus back meanwhile.
 */
export async function runCommand(page: Page, title: string): Promise<void> {
  const input = page.locator(".quick-input-widget input.input");
  // The palette lists what was enabled when it opened: a command that is enabled a moment later needs another palette.
  await until(async () => {
    await openPalette(page, title);
    const found = await until(() => moveTo(page, title), 3000).then(
      () => true,
      () => false,
    );
    if (!found) await input.press("Escape", { timeout: 2000 }).catch(() => undefined);
    return found;
  }, 90_000);
  await input.press("Enter");
  await until(async () => !(await input.isVisible()) || !(await input.inputValue()).startsWith(">"));
}

/** Moves the palette's cursor one row towards this one; true once Enter would take it. */
async function moveTo(page: Page, label: string): Promise<boolean> {
  if ((await chosenRow(page)) === label) return true;
  const shown = page.locator(".quick-input-list .label-name", { hasText: label }).filter({ visible: true });
  if ((await shown.allTextContents()).some((text) => text.trim() === label))
    await page.locator(".quick-input-widget input.input").press("ArrowDown", { timeout: 2000 });
  return false;
}

/** Label of the row that Enter takes; "" without one. */
export async function chosenRow(page: Page): Promise<string> {
  const rows = page.locator(".quick-input-list .monaco-list-row.focused .label-name").filter({ visible: true });
  return ((await rows.allTextContents())[0] ?? "").trim();
}

async function openPalette(page: Page, text: string): Promise<void> {
  const input = page.locator(".quick-input-widget input.input");
  await until(async () => {
    await page.keyboard.press("F1");
    return input
      .waitFor({ timeout: 3000 })
      .then(() => input.fill(`>${text}`, { timeout: 2000 }))
      .then(
        () => true,
        () => false,
      );
  });
}

/** Changes the colour theme as a person does, without a reload. */
export async function changeTheme(page: Page, label: string): Promise<void> {
  await runCommand(page, "Preferences: Color Theme");
  const picker = quickInput(page);
  await picker.rows.first().waitFor();
  await picker.input.fill(label);
  await until(async () => (await chosenRow(page)) === label);
  await picker.input.press("Enter");
  await picker.input.waitFor({ state: "hidden" });
}

/** Closes the palette or a question. */
export async function closeQuickInput(page: Page): Promise<void> {
  const input = page.locator(".quick-input-widget input.input");
  await until(async () => {
    if (!(await input.isVisible())) return true;
    await input.press("Escape", { timeout: 2000 }).catch(() => undefined);
    return false;
  });
}

/** The quick pick or input box that a command asks with. One widget serves all questions: wait for the right one. */
export function quickInput(page: Page) {
  const widget = page.locator(".quick-input-widget");
  const title = widget.locator(".quick-input-title");
  const input = widget.locator("input.input");
  const message = widget.locator(".quick-input-message");
  return {
    title,
    rows: widget.locator(".quick-input-list .monaco-list-row"),
    message,
    input,
    /** Waits for a question by a part of its title, such as "(2/5)", and optionally its placeholder or prompt. */
    asks: async (part: string, words = "") => {
      await title.filter({ hasText: part }).waitFor();
      if (words === "") return;
      await until(async () => {
        const placeholder = (await input.getAttribute("placeholder")) ?? "";
        if (placeholder.includes(words)) return true;
        return ((await message.textContent({ timeout: 1000 }).catch(() => null)) ?? "").includes(words);
      });
    },
    /** Waits for a question by its placeholder. */
    asksFor: (placeholder: string) =>
      until(async () => ((await input.getAttribute("placeholder")) ?? "").startsWith(placeholder)),
    /** Enter, whatever has the focus. */
    accept: () => input.press("Enter"),
    /** Clicks the row whose label begins so. */
    choose: async (label: string) => {
      const beginning = new RegExp(`^\\s*${label.replaceAll(".", "\\.")}`);
      const name = page.locator(".label-name", { hasText: beginning });
      await click(widget.locator(".quick-input-list .monaco-list-row").filter({ has: name }).first());
    },
    goBack: () =>
      click(
        widget.locator(".quick-input-titlebar .codicon-quick-input-back, .quick-input-titlebar .action-label").first(),
      ),
    /** Types into an input box that is there already. */
    type: async (text: string) => {
      await until(async () => {
        await input.fill(text);
        return (await input.inputValue()) === text;
      });
    },
  };
}

/**
 * Accepts what VS Code's own save dialog of the browser, a quick input with the path, proposes; returns that path. What
 * is typed while the dialog still fills itself would be overwritten.
 */
export async function acceptSave(page: Page, extension: string): Promise<string> {
  const { title, input } = quickInput(page);
  await title.filter({ hasText: "Save" }).waitFor();
  await until(async () => (await input.inputValue()).endsWith(`.${extension}`));
  const file = await input.inputValue();
  await until(async () => {
    await input.press("Enter", { timeout: 2000 }).catch(() => undefined);
    return input.waitFor({ state: "hidden", timeout: 10_000 }).then(
      () => true,
      () => false,
    );
  });
  return file;
}

/**
 * The inner document (iframe.webview > iframe#active-frame) of the webview whose <body> is marked data-view. VS Code
 * gives no webview a stable id, so the page's own mark finds it.
 */
export async function webview(page: Page, view: string, timeoutMs = 60_000): Promise<Frame> {
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
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** The same once its page is in one of these states. A webview may be made again meanwhile, so it is looked up again. */
export async function pageInState(page: Page, view: string, state = "ready"): Promise<Frame> {
  let frame: Frame | undefined;
  await until(async () => {
    frame = await webview(page, view);
    return (await frame.getAttribute("body", "data-state", { timeout: 1000 }).catch(() => null)) === state;
  }, 90_000);
  return frame!;
}

/** Ticks these rows too, of a list in which several may be chosen; each is looked for by its name, as the list is long. */
export async function tick(page: Page, labels: string[]): Promise<void> {
  const { input, rows } = quickInput(page);
  for (const label of labels) {
    const name = page.locator(".label-name", { hasText: new RegExp(`^\\s*${label}\\s*$`) });
    const box = rows.filter({ has: name }).first().locator("[role=checkbox], input[type=checkbox]").first();
    await until(async () => {
      if ((await input.inputValue()) !== label) await input.fill(label, { timeout: 2000 }).catch(() => undefined);
      const isTicked = await box.getAttribute("aria-checked", { timeout: 2000 }).catch(() => null);
      if (isTicked === "false") await tryClick(box, "click", 2000);
      return isTicked === "true";
    });
  }
  await input.fill("");
}

/** The page that a wizard ends in: what its run takes, and buttons that answer. */
export async function summaryPage(
  page: Page,
): Promise<{ frame: Frame; text: string; press: (button: string) => Promise<void> }> {
  const frame = await pageInState(page, "summary");
  return {
    frame,
    text: (await frame.textContent("main"))!,
    press: (button) => click(frame.getByRole("button", { name: button, exact: true })),
  };
}

/**
 * Waits until the workbench has stored a layout with these editors: the browser's VS Code writes it into IndexedDB some
 * seconds after a change, and a reload before that would bring back an older one.
 */
export async function layoutSaved(page: Page, viewTypes: string[]): Promise<void> {
  await until(async () => {
    const stored: string[] = await page.evaluate(`(async () => {
      const opened = (request) => new Promise((done, failed) => {
        request.onsuccess = () => done(request.result);
        request.onerror = () => failed(request.error);
      });
      const found = [];
      for (const { name } of await indexedDB.databases()) {
        if (!name.startsWith("vscode-web-state-db")) continue;
        const database = await opened(indexedDB.open(name));
        for (const store of database.objectStoreNames) {
          const values = await opened(database.transaction(store).objectStore(store).getAll());
          found.push(...values.filter((value) => typeof value === "string" && value.includes("editorpart")));
        }
        database.close();
      }
      return found;
    })()`);
    return stored.some((layout) => viewTypes.every((type) => layout.includes(type)));
  });
}
