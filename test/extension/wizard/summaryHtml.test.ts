import { expect, it } from "vitest";
import { recommendation } from "../../../src/extension/wizard/choices";
import { stageSummary } from "../../../src/extension/wizard/preflightLines";
import { summaryHtml } from "../../../src/extension/wizard/summaryHtml";
import { checkpoint } from "./checkpoints";
import { gib, preflight } from "./preflights";

const english = (text: string, ...values: unknown[]) =>
  text.replace(/\{(\d)\}/g, (_, i: string) => String(values[Number(i)]));

it("says everything whole, problems first, with a policy that lets nothing in but its own script and styles", () => {
  const long = `/models/${"a folder of a name that is long/".repeat(20)}`;
  const stages = [
    { stage: "profile" as const, seconds: 3600, peakMemoryBytes: 6 * gib, assumption: `measured; ${long}` },
  ];
  const html = summaryHtml(
    {
      title: "Calibrate <b>router</b>",
      lines: [
        { kind: "fact", label: "Text", description: `<script>alert(1)</script>${long}` },
        { kind: "warning", label: "Warning", description: long },
        { kind: "refusal", label: "Cannot start", description: "no" },
      ],
      stages: stageSummary(preflight({ stages }), english),
      buttons: [
        { answer: "start", label: "Start" },
        { answer: "close", label: "Cancel", hint: '"quoted"' },
      ],
    },
    "en",
    "n0nce",
    english,
  );
  expect(html.match(/folder of a name/g)).toHaveLength(60);
  expect(html.indexOf("Cannot start")).toBeLessThan(html.indexOf('scope="row">Text'));
  expect(html).not.toMatch(/<b>|alert\(1\)<\/script>/);
  expect(html).toContain("default-src 'none'; style-src 'nonce-n0nce'; script-src 'nonce-n0nce'");
  expect(html.match(/<(script|style)(?! nonce="n0nce")/g)).toBeNull();
  expect(html).toContain('<button data-answer="start" class="first">Start</button>');
  expect(html).toContain('title="&#34;quoted&#34;"');
  for (const text of ["1 h", "6.00 GiB", "Estimated from"]) expect(html).toContain(text);
});

it("recommends REAP at the published ratio, or the nearest that the checkpoint can do", () => {
  expect(recommendation(checkpoint(), english)).toMatchObject({
    label: "Recommended: reap, keep 20 of 32 experts",
    value: { method: "reap", keep: 0.625, recommended: true },
  });
  // With as many experts a token as there are experts, none can go.
  expect(recommendation({ ...checkpoint(), numExpertsPerToken: 128 }, english)).toBeNull();
});
