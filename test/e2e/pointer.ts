/** Steps with the mouse that survive something lying in the way. */
import type { Locator, Page } from "playwright-core";

/** One try, until the page is cleared and tried again; and all of them. */
const tryMs = 5000;
const allMs = 60_000;

type Step = "click" | "dblclick" | "rightClick" | "hover";

/**
 * Moves the mouse onto `target` and presses. A hover, an open menu, a sash or a notification may lie over it, and a tree
 * may draw its row again meanwhile: after each short try the mouse is moved away, which closes what follows it.
 * @throws what the last try met, in Playwright's words
 */
export async function click(target: Locator, step: Step = "click"): Promise<void> {
  const deadline = Date.now() + allMs;
  for (;;) {
    const failure = await perform(target, step, tryMs);
    if (failure === null) return;
    if (Date.now() > deadline) throw failure;
    await clearTheWay(target.page());
  }
}

/** One try of at most `timeout` ms; true once it was done. */
export async function tryClick(target: Locator, step: Step = "click", timeout = tryMs): Promise<boolean> {
  return (await perform(target, step, timeout)) === null;
}

async function perform(target: Locator, step: Step, timeout: number): Promise<Error | null> {
  const doing = {
    click: () => target.click({ timeout }),
    dblclick: () => target.dblclick({ timeout }),
    rightClick: () => target.click({ button: "right", timeout }),
    hover: () => target.hover({ timeout }),
  };
  try {
    await doing[step]();
    return null;
  } catch (error) {
    // A busy machine may let the time end between the press and its acknowledgement: it is not to be pressed twice.
    if (error instanceof Error && /(click|hover) action done/.test(error.message)) return null;
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Whether it becomes visible within `timeout` ms. */
export function appears(locator: Locator, timeout = 20_000): Promise<boolean> {
  return locator.waitFor({ timeout }).then(
    () => true,
    () => false,
  );
}

/** Moves the mouse where nothing is, and closes a menu that a step has left open. */
export async function clearTheWay(page: Page): Promise<void> {
  await page.mouse.move(0, 0);
  if ((await page.locator(".monaco-menu .action-item").count()) > 0) await page.keyboard.press("Escape");
}
