/**
 * `vscode.l10n.t`, or the same without VS Code in tests. Files of pure logic take it as a parameter, so that their
 * sentences are translated and they still run anywhere; pages have one of their own (webview/common/translate.ts).
 */
export type Translate = (message: string, ...args: (string | number)[]) => string;

/** The English text with {0}, {1} filled in. */
export const english: Translate = (message, ...args) =>
  message.replace(/\{(\d+)\}/g, (placeholder, index: string) => String(args[Number(index)] ?? placeholder));
