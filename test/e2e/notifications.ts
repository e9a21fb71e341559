/** Notifications, wherever VS Code shows them. */
import type { Locator, Page } from "playwright-core";
import { until } from "./codeServer";
import { appears, tryClick } from "./pointer";
import { runCommand } from "./workbench";

/**
 * A notification with these words. Most toasts go after ten seconds, which a busy machine may have spent on the step
 * before; the notification centre keeps them, so it is looked into where there is no toast for a while.
 */
export async function notification(page: Page, words: string | RegExp): Promise<Locator> {
  const found = page.locator(".notification-list-item", { hasText: words }).filter({ visible: true }).first();
  const centre = page.locator(".notifications-center").filter({ visible: true });
  await until(async () => {
    const isThere = await appears(found, 8000);
    if (!isThere && (await centre.count()) === 0) await runCommand(page, "Notifications: Show Notifications");
    return isThere;
  }, 90_000);
  return found;
}

/** Presses a button of the notification with these words. */
export async function answerNotification(page: Page, words: string, button: string): Promise<void> {
  await until(async () => {
    const asked = await notification(page, words);
    return tryClick(asked.getByText(button, { exact: true }));
  }, 90_000);
}
