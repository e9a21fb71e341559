/**
 * A script for a page: the times in ms, ascending, of 40 pointer moves over the cells of a heatmap, each with everything
 * drawn (reading a pixel back waits for the raster).
 */
export function hoverTimes(figure: string): string {
  return `(async () => {
    const frame = document.querySelector("[data-figure=${figure}] .plot-frame");
    const overlay = frame.querySelector("canvas.overlay").getContext("2d");
    const times = [];
    for (let i = 0; i < 40; i++) {
      await new Promise((done) => requestAnimationFrame(done));
      const { left, top } = frame.getBoundingClientRect();
      const start = performance.now();
      frame.dispatchEvent(new PointerEvent("pointermove", { clientX: left + 90 + i * 6, clientY: top + 70 + i * 4 }));
      frame.getBoundingClientRect();
      overlay.getImageData(0, 0, 1, 1);
      times.push(performance.now() - start);
    }
    return times.sort((a, b) => a - b);
  })()`;
}
