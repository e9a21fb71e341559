export function readmePage(markdown: string, read?: (file: string) => Buffer): string;
