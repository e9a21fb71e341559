/** Colours and fonts of the editor, read from its custom properties. Chart.js needs them as values, not as var(). */
export interface Theme {
  kind: "dark" | "light" | "high-contrast" | "high-contrast-light";
  foreground: string;
  muted: string;
  background: string;
  grid: string;
  focus: string;
  warning: string;
  /** Colours of series, in order; series differ by dash and marker too. */
  series: readonly string[];
  fontFamily: string;
  fontSize: number;
}

export function readTheme(): Theme {
  const style = getComputedStyle(document.documentElement);
  const read = (names: string[], fallback: string): string => {
    for (const name of names) {
      const value = style.getPropertyValue(`--vscode-${name}`).trim();
      if (value !== "") return value;
    }
    return fallback;
  };
  const kind = themeKind();
  const light = kind === "light" || kind === "high-contrast-light";
  const foreground = read(["editor-foreground", "foreground"], light ? "#222222" : "#dddddd");
  const highContrast = kind.startsWith("high-contrast");
  return {
    kind,
    foreground,
    muted: highContrast ? foreground : read(["descriptionForeground"], light ? "#5a5a5a" : "#a8a8a8"),
    background: pageBackground() ?? read(["editor-background"], light ? "#ffffff" : "#1e1e1e"),
    grid: highContrast
      ? read(["contrastBorder"], foreground)
      : light
        ? "rgba(0, 0, 0, 0.13)"
        : "rgba(255, 255, 255, 0.13)",
    focus: read(["focusBorder"], "#007fd4"),
    warning: read(["editorWarning-foreground", "charts-yellow"], "#b89500"),
    // Blue, orange and purple stay apart for all common kinds of colour blindness; red and green do not.
    series: [
      read(["charts-blue"], light ? "#1a85ff" : "#59a4f9"),
      read(["charts-orange"], "#d18616"),
      read(["charts-purple"], light ? "#652d90" : "#b180d7"),
      foreground,
    ],
    fontFamily: read(["font-family"], "sans-serif"),
    fontSize: Math.max(11, Math.min(16, Number.parseFloat(read(["font-size"], "13")) - 1)) || 12,
  };
}

/** Calls back, once a frame at most, after the editor switched its theme. Returns the way to stop. */
export function onThemeChange(changed: () => void): () => void {
  let frame = 0;
  const observer = new MutationObserver(() => {
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(changed);
  });
  observer.observe(document.body, { attributes: true, attributeFilter: ["class", "data-vscode-theme-kind"] });
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["style"] });
  return () => {
    observer.disconnect();
  };
}

/** The side panel has another background than editors: ask the page itself. */
function pageBackground(): string | null {
  const { backgroundColor } = getComputedStyle(document.body);
  return backgroundColor === "rgba(0, 0, 0, 0)" ? null : backgroundColor;
}

function themeKind(): Theme["kind"] {
  const { classList } = document.body;
  if (classList.contains("vscode-high-contrast-light")) return "high-contrast-light";
  if (classList.contains("vscode-high-contrast")) return "high-contrast";
  return classList.contains("vscode-light") ? "light" : "dark";
}
