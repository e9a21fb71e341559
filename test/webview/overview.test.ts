/** The Overview in the side panel. */
import { expect, it } from "vitest";
import * as samples from "./samples";
import { usePages } from "./usePages";

const { openReady } = usePages();

it("live numbers, and buttons that ask for commands", async () => {
  const opened = await openReady("overview");
  const text = (await opened.tab.textContent("main"))!;
  for (const part of ["55 %", "12 min 34 s", "0.1523 nats a token", "update 120 of 400"]) expect(text).toContain(part);
  await opened.tab.click("vscode-button:text('Cancel')");
  expect((await opened.posted()).at(-1)).toMatchObject({
    method: "command",
    params: { command: "cancelRun", runDirectory: "/w/.reroute/runs/olmoe-reap-0.625" },
  });
  await opened.send({
    type: "update",
    page: "overview",
    data: {
      ...samples.overview(),
      run: samples.run("r", "failed", { error: { code: "internal", message: "it broke" } }),
      progress: null,
      engine: { state: "crashed", message: "exit code 139" },
    },
  });
  expect(await opened.tab.textContent("main")).toContain("exit code 139");
  expect(await opened.tab.textContent("main")).toContain("it broke");
  expect(await opened.tab.locator("vscode-button:text('Resume')").count()).toBe(1);
  expect(await opened.tab.isVisible("progress")).toBe(false);
  await opened.screenshot("overview-crashed");
  await opened.send({ type: "update", page: "overview", data: { ...samples.overview(), trusted: false } });
  expect(await opened.tab.textContent("main")).toContain("Restricted Mode");
  expect(await opened.tab.locator("vscode-button:text('Cancel')").count()).toBe(0);
  await opened.close();
});
