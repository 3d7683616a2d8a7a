import { AppError } from "../base/errors.ts";
import type { Network, PortMapping, Sandbox } from "../net/network.ts";

/** The network with `net: "off"`: sandboxes are empty namespaces, which the runtime makes, and host ports are refused. */
export class NoNetwork implements Network {
  readonly #sandboxes = new Map<string, Sandbox>();

  async start(): Promise<void> {}

  async attach(instanceId: string): Promise<Sandbox> {
    const sandbox = { instanceId, namespacePath: "", address: "", resolvConf: "" };
    this.#sandboxes.set(instanceId, sandbox);
    return sandbox;
  }

  async detach(instanceId: string): Promise<void> {
    this.#sandboxes.delete(instanceId);
  }

  async publish(_instanceId: string, ports: readonly PortMapping[]): Promise<void> {
    if (ports.length > 0) {
      throw new AppError("NET_OFF", "Cannot publish host ports: the network of this worker is off (setting net)");
    }
  }

  async unpublish(): Promise<void> {}

  list(): readonly Sandbox[] {
    return [...this.#sandboxes.values()];
  }

  async stop(): Promise<void> {}
}
