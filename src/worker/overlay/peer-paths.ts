/**
 * How packets go to each other worker: straight where the two share a link, through the tunnel otherwise, and also where the link lets
 * no packets with our addresses pass, which only a try can tell.
 */
import type { Clock } from "../../base/clock.ts";
import type { Overlay, Peer } from "../../net/overlay.ts";
import type { PathQuality } from "../../net/rtt.ts";
import type { WorkerEndpoint } from "../../protocol/route.ts";

interface PathState {
  readonly path: Peer["path"];
  /** Monotonic ms at which the straight way is tried again. */
  readonly retryAt: number;
  /** Failed tries of the straight way. */
  readonly failures: number;
}

const STRAIGHT: PathState = { path: "plain", retryAt: 0, failures: 0 };

const MISSED_MOST = 3;
const RETRY_MS = 600_000;
const MAX_RETRY_MS = 86_400_000;

/** @param quality as probed: `underlay` between the two workers, `overlay` with our addresses on the path that is in use */
export function nextPath(
  before: PathState,
  quality: { readonly underlay: PathQuality | undefined; readonly overlay: PathQuality | undefined },
  now: number,
): PathState {
  const { underlay, overlay } = quality;
  if (before.path === "vxlan") return now >= before.retryAt ? { ...before, path: "plain" } : before;
  const isLinkUp = underlay?.rttMs !== undefined && underlay.missed === 0;
  if (!isLinkUp || (overlay?.missed ?? 0) < MISSED_MOST) return before;
  const retryMs = Math.min(MAX_RETRY_MS, RETRY_MS * 2 ** before.failures);
  return { path: "vxlan", retryAt: now + retryMs, failures: before.failures + 1 };
}

interface Known {
  readonly endpoint: WorkerEndpoint;
  isOnLink: boolean;
  state: PathState;
}

export interface PeerPathsOptions {
  readonly overlay: Pick<Overlay, "underlayTo">;
  readonly quality: (workerId: string, path: "underlay" | "overlay") => PathQuality | undefined;
  readonly clock: Clock;
}

export class PeerPaths {
  readonly #options: PeerPathsOptions;
  readonly #known = new Map<string, Known>();
  /** Workers to which an earlier run found the straight way closed. */
  #closedBefore: ReadonlySet<string> = new Set();
  #peers: readonly Peer[] = [];

  constructor(options: PeerPathsOptions) {
    this.#options = options;
  }

  /** @param closed what `closed` was in an earlier run */
  restore(closed: readonly string[]): void {
    this.#closedBefore = new Set(closed);
  }

  /** Workers on a common link to which the straight way is closed. */
  get closed(): string[] {
    return [...this.#known].flatMap(([id, { isOnLink, state }]) => (isOnLink && state.path === "vxlan" ? [id] : []));
  }

  /** The peers, always the same array until something differs. */
  async update(endpoints: readonly WorkerEndpoint[]): Promise<readonly Peer[]> {
    const ids = new Set(endpoints.map(({ id }) => id));
    for (const id of this.#known.keys()) if (!ids.has(id)) this.#known.delete(id);
    // All at once: the host is looked at once for them.
    await Promise.all(endpoints.map((endpoint) => this.#learn(endpoint)));
    const peers = endpoints.map(({ id, address, subnets }): Peer => {
      const { isOnLink, state } = this.#known.get(id)!;
      return { id, address, subnets, path: isOnLink ? state.path : "vxlan" };
    });
    if (JSON.stringify(peers) !== JSON.stringify(this.#peers)) this.#peers = peers;
    return this.#peers;
  }

  /** Whether a link is shared is looked up again: links come and go. */
  async refresh(): Promise<void> {
    await Promise.all(
      [...this.#known.values()].map(async (known) => {
        known.isOnLink = await this.#isOnLink(known.endpoint.address);
      }),
    );
    for (const id of this.#known.keys()) this.measured(id);
  }

  /** True when packets go another way from now on. */
  measured(workerId: string): boolean {
    const { quality, clock } = this.#options;
    const known = this.#known.get(workerId);
    if (!known?.isOnLink) return false;
    const before = known.state;
    const measures = { underlay: quality(workerId, "underlay"), overlay: quality(workerId, "overlay") };
    known.state = nextPath(before, measures, clock.monotonic());
    return known.state.path !== before.path;
  }

  async #learn(endpoint: WorkerEndpoint): Promise<void> {
    const before = this.#known.get(endpoint.id);
    if (before?.endpoint === endpoint) return;
    if (before?.endpoint.address === endpoint.address) {
      this.#known.set(endpoint.id, { ...before, endpoint });
      return;
    }
    const isOnLink = await this.#isOnLink(endpoint.address);
    const retryAt = this.#options.clock.monotonic() + RETRY_MS;
    const wasClosed = before === undefined && this.#closedBefore.has(endpoint.id);
    const state: PathState = wasClosed ? { path: "vxlan", retryAt, failures: 1 } : STRAIGHT;
    this.#known.set(endpoint.id, { endpoint, isOnLink, state });
  }

  async #isOnLink(address: string): Promise<boolean> {
    return (await this.#options.overlay.underlayTo(address)).onLink;
  }
}
