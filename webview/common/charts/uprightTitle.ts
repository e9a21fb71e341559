/** An upright title in lines that fit beside a plot of this height: chart.js cuts what is longer at both ends. */
export function uprightTitle(title: string, height: number, { fontSize }: { fontSize: number }): string[] {
  const most = Math.max(12, Math.floor(height / (0.56 * fontSize)));
  return title.split(" ").reduce<string[]>((lines, word) => {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > most) return [...lines, word];
    return [...lines.slice(0, -1), `${last} ${word}`];
  }, []);
}
