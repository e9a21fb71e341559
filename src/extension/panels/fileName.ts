/**
 * A name for the save dialog, made from one that a page proposed: no folders, no control or direction characters, no
 * names that Windows refuses, at most 100 characters; the extension fits what is saved.
 */
export function saveFileName(proposed: string, extension: string): string {
  const base = proposed
    .replace(/\.[a-z0-9]{1,5}$/i, "")
    .replace(/[^\p{L}\p{N} ._-]+/gu, "-")
    .replace(/^[ .-]+|[ .-]+$/g, "")
    .slice(0, 100);
  const safe = base === "" || /^(con|prn|aux|nul|com\d|lpt\d)$/i.test(base) ? "reroute" : base;
  return `${safe}.${extension}`;
}
