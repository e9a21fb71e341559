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
  const background = pageBackground() ?? read(["editor-background"], light ? "#ffffff" : "#1e1e1e");
  return {
    kind,
    foreground,
    muted: highContrast ? foreground : read(["descriptionForeground"], light ? "#5a5a5a" : "#a8a8a8"),
    background,
    grid: highContrast
      ? // Lines of full strength would compete with the data's.
        light
        ? "rgba(0, 0, 0, 0.35)"
        : "rgba(255, 255, 255, 0.35)"
      : light
        ? "rgba(0, 0, 0, 0.13)"
        : "rgba(255, 255, 255, 0.13)",
    focus: read(["focusBorder"], "#007fd4"),
    warning: read(["editorWarning-foreground", "charts-yellow"], "#b89500"),
    // Blue, orange and purple stay apart for all common kinds of colour blindness; red and green do not.
    series: [
      readable(read(["charts-blue"], ""), background, light ? "#0a6cd6" : "#59a4f9"),
      readable(read(["charts-orange"], ""), background, light ? "#a85800" : "#e0922f"),
      readable(read(["charts-purple"], ""), background, light ? "#652d90" : "#b180d7"),
      foreground,
      ...(light ? ["#00735c", "#a8327d", "#7a6a00", "#4a4a8f"] : ["#3fc1a5", "#e583c0", "#d6c84b", "#a6a6e8"]),
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

/**
 * The theme's colour where a thin line of it can be seen on the background (WCAG asks 3:1 of graphics), else ours: some
 * themes define chart colours as half-transparent highlights.
 */
export function readable(colour: string, background: string, otherwise: string): string {
  const over = parseColour(colour);
  const under = parseColour(background);
  if (!over) return otherwise;
  if (!under) return colour;
  const mixed = [0, 1, 2].map((i) => over.rgb[i]! * over.alpha + under.rgb[i]! * (1 - over.alpha));
  const [dark, bright] = [luminance(mixed), luminance(under.rgb)].sort((a, b) => a - b) as [number, number];
  return (bright + 0.05) / (dark + 0.05) >= 3 ? colour : otherwise;
}

/** "#rgb", "#rrggbb", "#rrggbbaa" and "rgb(r, g, b, a)": what VS Code and browsers write. */
function parseColour(text: string): { rgb: number[]; alpha: number } | null {
  const hex = /^#([\da-f]{3,8})$/i.exec(text)?.[1];
  if (hex) {
    const digits = hex.length <= 4 ? hex.replace(/./g, "$&$&") : hex;
    const parts = (digits.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16));
    return parts.length < 3 ? null : { rgb: parts.slice(0, 3), alpha: (parts[3] ?? 255) / 255 };
  }
  const parts = /^rgba?\(([^)]*)\)$/
    .exec(text)?.[1]
    ?.split(/[\s,/]+/)
    .map(Number);
  if (!parts || parts.length < 3 || parts.some(Number.isNaN)) return null;
  return { rgb: parts.slice(0, 3), alpha: parts[3] ?? 1 };
}

/** Relative luminance (WCAG 2), 0..1. */
function luminance(rgb: readonly number[]): number {
  const [r, g, b] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function themeKind(): Theme["kind"] {
  const { classList } = document.body;
  if (classList.contains("vscode-high-contrast-light")) return "high-contrast-light";
  if (classList.contains("vscode-high-contrast")) return "high-contrast";
  return classList.contains("vscode-light") ? "light" : "dark";
}
