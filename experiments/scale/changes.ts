/** Changes of instances at a steady rate, and how long each takes until it is seen where it matters. */
import { eventually } from "../../test/support/eventually.ts";
import { percentile } from "./role.ts";

export interface Latencies {
  readonly p50: number;
  readonly p99: number;
  readonly count: number;
}

export interface Changeable {
  readonly id: string;
  change(detail: string): void;
}

export class Changes {
  readonly #instances: readonly Changeable[];
  readonly #everyMs: number;
  readonly #sentAt = new Map<string, number>();
  readonly #latencies: number[] = [];
  #timer: NodeJS.Timeout | undefined;
  #next = 0;

  constructor(instances: readonly Changeable[], perSecond: number) {
    this.#instances = instances;
    this.#everyMs = 1000 / perSecond;
  }

  start(): void {
    this.#timer = setInterval(() => this.#change(), this.#everyMs);
  }

  arrived(instanceId: string, detail: string): void {
    const key = `${instanceId} ${detail}`;
    const at = this.#sentAt.get(key);
    if (at === undefined) return;
    this.#sentAt.delete(key);
    this.#latencies.push(performance.now() - at);
  }

  async stop(): Promise<Latencies> {
    clearInterval(this.#timer);
    await eventually(() => this.#sentAt.size === 0 || undefined, { what: "the last change" });
    return {
      p50: percentile(this.#latencies, 0.5),
      p99: percentile(this.#latencies, 0.99),
      count: this.#latencies.length,
    };
  }

  #change(): void {
    this.#next += 1;
    // A prime step: those that follow each other are no neighbours.
    const instance = this.#instances[(this.#next * 7919) % this.#instances.length]!;
    const detail = `running, change ${this.#next}`;
    this.#sentAt.set(`${instance.id} ${detail}`, performance.now());
    instance.change(detail);
  }
}
