import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { readmePage } from "../../scripts/readmePage.mjs";

it("the extension's page has its pictures inside, and no link that leads nowhere", () => {
  const page = readmePage(readFileSync("README.md", "utf8"));
  expect(page).toMatch(/!\[[^\]]+\]\(data:image\/png;base64,iVBOR/);
  const links = [...page.matchAll(/\]\(([^)]{1,200})/g)].map((match) => match[1]!);
  expect(links.filter((link) => !/^(https:|data:image\/png;base64,)/.test(link))).toEqual([]);
  expect(page).toContain("**Command line**");
});

it.each([
  ["[a](docs/a.md)", "**a**"],
  ["[a](https://x.org)", "[a](https://x.org)"],
  ["![p](p.png)", "![p](data:image/png;base64,AQI=)"],
])("%s", (markdown, expected) => {
  expect(readmePage(markdown, () => Buffer.from([1, 2]))).toContain(expected);
});

it("the README of the repository is left out of the package: two of one name are refused", () => {
  expect(readFileSync(".vscodeignore", "utf8")).not.toMatch(/^!readme\.md$/im);
});
