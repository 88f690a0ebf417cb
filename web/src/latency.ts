/** The page's clock, and the latencies measured with it. Never compares two clocks. */

/** How many of the latest latencies the median is taken over. */
export const LATENCY_WINDOW = 200;

/** Milliseconds since 1970 with fractions, steady while the page lives. */
export function now(): number {
  return performance.timeOrigin + performance.now();
}

/** The latest latencies of a pane. */
export class LatencyWindow {
  #values: number[] = [];
  #next = 0;

  /** Adds one, in milliseconds, in place of the oldest when the window is full. */
  add(milliseconds: number): void {
    this.#values[this.#next] = milliseconds;
    this.#next = (this.#next + 1) % LATENCY_WINDOW;
  }

  /** The median in milliseconds; null while there is none. */
  median(): number | null {
    if (this.#values.length === 0) {
      return null;
    }
    const sorted = [...this.#values].sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    const upper = sorted[middle] ?? 0;
    return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? upper)) / 2;
  }
}

/** A latency for people: `0.8 ms`, `12 ms`, `3.4 s`. */
export function formatLatency(milliseconds: number): string {
  const value = Math.max(0, milliseconds);
  if (value < 9.95) {
    return `${value.toFixed(1)} ms`;
  }
  if (value < 999.5) {
    return `${Math.round(value)} ms`;
  }
  return value < 99_950 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value / 1000)} s`;
}
