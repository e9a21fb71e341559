import { describe, expect, it } from "vitest";
import { issueText } from "../../src/extension/support/issueText";
import { reportHtml } from "../../src/extension/reports/reportHtml";
import { linkOf, type Link } from "../../src/extension/support/links";
import { english } from "../../src/protocol/translate";

describe("an issue report", () => {
  const facts = { version: "1", vscode: "2", platform: "linux", doctor: "ok", log: "a\nb\n", home: "/home/ada" };
  it("holds versions, the doctor and the log", () => {
    const text = issueText(facts);
    for (const part of ["Reroute 1, VS Code 2, linux", "```text\nok\n```", "```text\na\nb\n```"])
      expect(text).toContain(part);
  });
  it("names no home folder, and keeps the end of a long log", () => {
    const log = Array.from({ length: 300 }, (_, i) => `${i} /home/ada/models`).join("\n");
    const text = issueText({ ...facts, log });
    expect(text).not.toContain("ada");
    expect(text).toContain("299 ~/models");
    expect(text).not.toContain("\n99 ~/models");
    expect(text).toContain("the last 200 of 300 lines");
  });
  it("cannot be ended by what the log says", () => {
    expect(issueText({ ...facts, log: "x\n```\n# not a heading" })).toContain(
      "````text\nx\n```\n# not a heading\n````",
    );
  });
});

it.each<[string, string, Link | null]>([
  ["/open", "run=%2Fw%2F.reroute%2Fruns%2Fa", { kind: "run", path: "/w/.reroute/runs/a" }],
  ["/open", "run=/w/.reroute/runs/a/", { kind: "run", path: "/w/.reroute/runs/a" }],
  ["/open", "checkpoint=/w/qwen", { kind: "checkpoint", path: "/w/qwen" }],
  ["/open", "file=/w/a.reroute.json", { kind: "file", path: "/w/a.reroute.json" }],
  ["/open", "file=/w/compression-plan.json", { kind: "file", path: "/w/compression-plan.json" }],
  ["/open", "file=/w/model.safetensors", { kind: "file", path: "/w/model.safetensors" }],
  ["/open", "file=/etc/passwd", null],
  ["/open", "file=/w/../../home/me/a.safetensors", null],
  ["/open", "run=/w/.reroute/./runs", null],
  ["/open", "run=runs/a", null],
  ["/open", "run=/w%00/a", null],
  ["/open", "run=/w&checkpoint=/w", null],
  ["/open", "command=reroute.deleteRun", null],
  ["/open", "", null],
  ["/start", "run=/w", null],
])("the link %s?%s", (path, query, expected) => {
  expect(linkOf(path, query)).toEqual(expected);
});

it("a file that is no report of ours is under the same policy, before anything else of it", () => {
  const hostile = `<!doctype html>\n<img src="https://tracker.example/x.png"><script>alert(1)</script>`;
  expect(reportHtml(hostile, english)).toMatch(
    /^<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src 'none'/,
  );
  expect(reportHtml("<p>", english)).toMatch(/^<meta http-equiv="Content-Security-Policy"/);
});

it("a report keeps its policy as a page, takes the theme's colours, and has no script", () => {
  const policy = `<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">`;
  const page = reportHtml(
    `<html><head>${policy}<style>:root{--text:#111}</style></head><body>x</body></html>`,
    english,
  );
  expect(page).toContain(policy);
  expect(page).not.toContain("<script");
  expect(page.indexOf("--text:#111")).toBeLessThan(
    page.indexOf("--text:var(--vscode-editor-foreground,var(--own-text))"),
  );
});

it("a report's sentences name the editor's way instead of the command line's options; what it quotes stays", () => {
  const warning = "give about 2 GiB (--memory), or ask";
  const page = reportHtml(`<html><head></head><body><li>${warning}</li><code>${warning}</code></body></html>`, english);
  expect(page).toContain("<li>give about 2 GiB (setting reroute.memory), or ask</li>");
  expect(page).toContain(`<code>${warning}</code>`);
});
