export function collectSentences(folder?: string): Record<string, string>;
