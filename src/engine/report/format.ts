/** Text made safe inside HTML, attributes included. Names in reports come from untrusted files. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (c) => `&#${c.charCodeAt(0)};`);
}

/** Text made safe inside a Markdown table cell or line. */
export function escapeMarkdown(text: string): string {
  return text.replace(/[\r\n]+/g, " ").replace(/[\\`*_{}[\]<>|#!~$&]/g, "\\$&");
}

/** A number that may be unknown, by one of the formats above; a dash where it is. */
export function formatOptional(value: number | null, format: (value: number) => string): string {
  return value === null ? "–" : format(value);
}
