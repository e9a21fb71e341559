export function collectSentences(folders?: string[]): Record<string, string>;
