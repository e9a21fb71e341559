// The README as the extension's page in VS Code can show it: that page resolves no relative links.
import { readFileSync } from "node:fs";

/** Pictures are put into the text; links to files of the package lose their address and keep their words. */
export function readmePage(markdown, read = (file) => readFileSync(file)) {
  const withPictures = markdown.replace(/!\[([^\]]*)\]\(([^):]+\.png)\)/g, (_, words, file) => {
    return `![${words}](data:image/png;base64,${read(file).toString("base64")})`;
  });
  const withoutLinks = withPictures.replace(/(?<!!)\[([^\]]+)\]\((?![a-z]+:)[^)]*\)/g, "**$1**");
  return `${withoutLinks.trimEnd()}\n\nThe documents named here are in the package: run **Reroute: Show Documentation**.\n`;
}
