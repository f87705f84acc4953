// The stream of frames. A browser opens a broken one again by itself; one that was refused, we do.

const SILENCE = 2; // seconds beyond two frames, after which what is shown is called old

export class Feed {
  constructor({ onHistory, onFrame, onLink }) {
    Object.assign(this, { onHistory, onFrame, onLink });
    this.watch = null;
    this.last = 0;
    this.interval = 1;
    setInterval(() => this.check(), 1000);
    document.addEventListener("visibilitychange", () => {
      if (!document.hidden && this.source && this.source.readyState === EventSource.CLOSED) this.open(this.watch);
    });
  }

  open(watch) {
    this.close();
    this.watch = watch;
    const source = this.source = new EventSource(watch ? `events?watch=${encodeURIComponent(watch)}` : "events");
    source.addEventListener("history", (event) => this.onHistory(JSON.parse(event.data)));
    source.addEventListener("frame", (event) => {
      const frame = JSON.parse(event.data);
      this.last = performance.now();
      this.interval = frame.interval || 1;
      this.onLink("live", this.interval);
      this.onFrame(frame);
    });
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) this.again = setTimeout(() => this.open(this.watch), 3000);
      this.check();
    });
  }

  close() {
    clearTimeout(this.again);
    if (this.source) this.source.close();
  }

  check() {
    const quiet = (performance.now() - this.last) / 1000;
    if (quiet > 2 * this.interval + SILENCE) this.onLink(this.last ? "old" : "waiting", quiet);
  }
}
