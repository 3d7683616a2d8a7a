/** What listens on this worker's own address in each of its subnets: the name server of its sandboxes, and where other workers send bodies. */
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import { Reconciler } from "../../base/reconciler.ts";
import { DnsServer } from "../../net/dns/dns-server.ts";
import { hostResolvers } from "../../net/dns/host-resolvers.ts";
import type { Sandbox } from "../../net/network.ts";
import type { DesiredSet } from "../desired.ts";
import { createNameAnswers } from "../routes/name-answers.ts";
import type { RouteTable } from "../routes/route-table.ts";
import { BodySink } from "./path-check.ts";
import { gatewayOf } from "./place.ts";

const RESYNC_MS = 60_000;
const BACKOFF = { firstMs: 500, maxMs: 30_000 };

export interface GatewayServersOptions {
  readonly routes: RouteTable;
  readonly sandboxes: () => readonly Sandbox[];
  readonly desired: () => DesiredSet | undefined;
  readonly isServiceAddress: (address: string) => boolean;
  readonly isPeer: (address: string) => boolean;
  /** Those that the kernel has now. */
  readonly subnets: () => readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

export class GatewayServers {
  readonly #options: GatewayServersOptions;
  readonly #names: DnsServer;
  readonly #bodies: BodySink;
  readonly #loop: Reconciler;

  constructor(options: GatewayServersOptions) {
    const { log, clock } = options;
    this.#options = options;
    this.#names = createNameServer(options);
    this.#bodies = new BodySink(options);
    this.#loop = new Reconciler({
      ...{ name: "gateway servers", pass: () => this.#listen(), log, clock, resyncMs: RESYNC_MS, backoff: BACKOFF },
    });
  }

  trigger(): void {
    this.#loop.trigger();
  }

  async run(signal: AbortSignal): Promise<void> {
    await this.#loop.run(signal);
    this.#names.close();
    this.#bodies.close();
  }

  async #listen(): Promise<undefined> {
    const gateways = this.#options.subnets().map(gatewayOf);
    await this.#bodies.listen(gateways);
    await this.#names.listen(gateways);
    return undefined;
  }
}

function createNameServer({ routes, sandboxes, desired, isServiceAddress, log }: GatewayServersOptions): DnsServer {
  const ownerOf = (address: string) => sandboxes().find((sandbox) => sandbox.address === address)?.instanceId;
  return new DnsServer({
    answer: createNameAnswers({
      routes,
      askerAt: (address) => desired()?.instances.get(ownerOf(address) ?? ""),
      isServiceAddress,
    }),
    isAllowed: (source) => ownerOf(source) !== undefined,
    upstreams: hostResolvers,
    log,
  });
}
