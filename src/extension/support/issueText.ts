/** What an issue report says of itself; the person who reports fills in the rest. Pure, so that a test can read it. */
export interface IssueFacts {
  version: string;
  vscode: string;
  platform: string;
  doctor: string;
  /** The extension's log, from its beginning. */
  log: string;
  home: string;
}

/** Last lines of the log that a report holds. */
const logLines = 200;

/** Markdown of a new issue. The home folder is written as ~, since its name is often a person's. */
export function issueText({ version, vscode, platform, doctor, log, home }: IssueFacts): string {
  const lines = log.trimEnd().split("\n");
  const tail = lines.slice(-logLines).join("\n");
  const cut = lines.length > logLines ? ` (the last ${logLines} of ${lines.length} lines)` : "";
  const text = [
    "# What happened",
    "",
    "<!-- What you did, what you expected, what came instead. Read what follows before you send it: it names files of yours. -->",
    "",
    "# Where",
    "",
    `Reroute ${version}, VS Code ${vscode}, ${platform}`,
    "",
    "## reroute doctor",
    "",
    fenced(doctor.trimEnd()),
    "",
    `## Log${cut}`,
    "",
    fenced(tail),
    "",
    "<!-- Of a run, add its log.jsonl and run.json. -->",
    "",
  ].join("\n");
  return home.length > 1 ? text.replaceAll(home, "~") : text;
}

/** A block that no text inside can end. */
function fenced(text: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}text\n${text}\n${fence}`;
}
