/** Keeps this worker's place in the overlay: what the cluster says, where the machine is, and who has introduced themselves. */
import { type Clock, pause } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { ownAddress } from "../../base/own-address.ts";
import { runTogether } from "../../base/task-group.ts";
import type { OverlaySettings } from "../../net/overlay.ts";
import type { WorkerNetwork } from "../../protocol/mqtt.ts";
import type { WorkerEndpoint } from "../../protocol/route.ts";
import { StateFile } from "../state-file.ts";
import { addressesOf, endpointOf, type FixedPlace, isInServiceRange, isLoopback, Place, settingsOf } from "./place.ts";

const LOOK_AGAIN_MS = 60_000;
/** So long a worker that has introduced itself is known without another word of it. */
const CALLER_MS = 3_600_000;
const MAX_CALLERS = 4096;

export interface OwnPlaceOptions {
  readonly path: string;
  readonly fixed: FixedPlace;
  readonly clusterHost: string;
  readonly isConnected: () => boolean;
  /** Workers on a common link that lets none of our packets pass. */
  readonly closed: () => string[];
  readonly onChange: () => void;
  /** Others reach this worker's instances elsewhere now. */
  readonly onEndpoint: () => void;
  readonly clock: Clock;
  readonly log: Logger;
}

export class OwnPlace {
  readonly #options: OwnPlaceOptions;
  readonly #file: StateFile<typeof Place>;
  #place: Place | undefined;
  #wake: (() => void) | undefined;

  constructor(options: OwnPlaceOptions) {
    const { path, closed, log, clock } = options;
    this.#options = options;
    this.#file = new StateFile({
      ...{ path, schema: Place, log, clock },
      snapshot: () => this.#place && { ...this.#place, closed: closed() },
    });
  }

  get current(): Place | undefined {
    return this.#place;
  }

  /** How others reach this worker's instances; undefined: not known yet. */
  get endpoint(): WorkerEndpoint | undefined {
    return endpointOf(this.#place, this.#options.fixed);
  }

  get settings(): OverlaySettings {
    return settingsOf(this.#place, this.#options.fixed);
  }

  get callers(): WorkerEndpoint[] {
    return this.#place?.callers.map(({ endpoint }) => endpoint) ?? [];
  }

  isServiceAddress(address: string): boolean {
    return isInServiceRange(address, this.#place);
  }

  /** Takes up the place of an earlier run. */
  async restore(): Promise<void> {
    this.#place = await this.#file.read();
    this.#expireCallers();
  }

  /** A new connection to the cluster. */
  connected(workerId: string, mqttPort: number): void {
    const known = this.#place?.workerId === workerId ? this.#place : undefined;
    this.#move({ clusterHosts: [], callers: [], closed: [], ...known, workerId, mqttPort });
    this.#wake?.();
  }

  takeNetwork(network: WorkerNetwork): void {
    if (this.#place) this.#move({ ...this.#place, network });
  }

  addCaller(endpoint: WorkerEndpoint): void {
    if (!this.#place) return;
    const others = this.#place.callers.filter((one) => one.endpoint.id !== endpoint.id).slice(1 - MAX_CALLERS);
    this.#move({ ...this.#place, callers: [...others, { endpoint, heardAt: this.#options.clock.now() }] });
  }

  run(signal: AbortSignal): Promise<void> {
    return runTogether({ file: (stop) => this.#file.run(stop), location: (stop) => this.#look(stop) }, signal);
  }

  /** Where the machine is on the network may change at any time, and does so with a new connection most likely. */
  async #look(signal: AbortSignal): Promise<void> {
    const { clock, isConnected, log } = this.#options;
    while (!signal.aborted) {
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      try {
        if (isConnected()) await this.#locate();
        this.#expireCallers();
        this.#file.trigger();
      } catch (error) {
        log.warn({ error }, "own address not found out");
      }
      await pause(clock, LOOK_AGAIN_MS, AbortSignal.any([signal, woken.signal]));
    }
  }

  async #locate(): Promise<void> {
    const { clusterHost } = this.#options;
    const [found, clusterHosts] = await Promise.all([ownAddress(clusterHost), addressesOf(clusterHost)]);
    if (!this.#place) return;
    const { address: _before, ...rest } = this.#place;
    const isUsable = !found.includes(":") && !isLoopback(found);
    this.#move({ ...rest, ...(isUsable ? { address: found } : {}), ...(clusterHosts ? { clusterHosts } : {}) });
  }

  #expireCallers(): void {
    if (!this.#place) return;
    const now = this.#options.clock.now();
    // A clock that was set back must not make them live for ever.
    const isKnown = ({ heardAt }: { readonly heardAt: number }) => heardAt <= now && now - heardAt < CALLER_MS;
    const callers = this.#place.callers.filter(isKnown);
    if (callers.length < this.#place.callers.length) this.#move({ ...this.#place, callers });
  }

  #move(place: Place): void {
    const { onChange, onEndpoint } = this.#options;
    const [before, endpointBefore] = [JSON.stringify(this.#place), JSON.stringify(this.endpoint)];
    this.#place = place;
    if (JSON.stringify(place) === before) return;
    this.#file.trigger();
    onChange();
    if (JSON.stringify(this.endpoint) !== endpointBefore) onEndpoint();
  }
}
