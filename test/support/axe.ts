import axe from "axe-core";

interface AxeFinding {
  id: string;
  impact: string;
  nodes: { target: unknown; failureSummary: string }[];
}

/** A page or a frame. */
interface Evaluates {
  evaluate: <T>(script: string) => Promise<T>;
}

/** Findings that block people: axe's "serious" and "critical". */
export async function seriousFindings(page: Evaluates): Promise<string[]> {
  await page.evaluate(axe.source);
  const violations: AxeFinding[] = await page.evaluate("axe.run().then((result) => result.violations)");
  return violations
    .filter(({ impact }) => impact === "serious" || impact === "critical")
    .map(
      ({ id, nodes }) =>
        `${id}: ${JSON.stringify(nodes.map(({ target, failureSummary }) => [target, failureSummary]))}`,
    );
}
