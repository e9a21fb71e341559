// Prints the milliseconds that a fresh Node process takes to read, compile and run the extension's bundle.
import { readFileSync } from "node:fs";
import Module, { createRequire } from "node:module";
import { performance } from "node:perf_hooks";
import process from "node:process";

const bundle = process.argv[2];
// Whatever the bundle takes of VS Code while it loads is a class, a function or a namespace that does nothing.
const anything = new Proxy(function () {}, {
  get: (target, key) => (key in target || typeof key === "symbol" ? target[key] : anything),
  apply: () => anything,
});
const names = new Set([...readFileSync(bundle, "utf8").matchAll(/\bvscode\d*\.(\w+)/g)].map(([, name]) => name));
const vscode = Object.fromEntries([...names].map((name) => [name, anything]));
const load = Module._load;
Module._load = (request, ...rest) => (request === "vscode" ? vscode : load(request, ...rest));

const began = performance.now();
createRequire(import.meta.url)(bundle);
process.stdout.write((performance.now() - began).toFixed(1));
