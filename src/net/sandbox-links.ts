import { formatAddress } from "../addressing/subnet.ts";
import { describeError } from "../base/errors.ts";
import { writeSysctls } from "./host.ts";
import type { IpBatch } from "./ip-batch.ts";
import { SANDBOX_GATEWAY_MAC, SANDBOX_GROUP } from "./overlay-names.ts";
import { runBatch } from "./run-batch.ts";
import { linkName, macAddress, namespaceName } from "./sandbox-names.ts";

/** The last one: the kernel took it away between our look and our word. */
const GONE = /Cannot find device|No such file or directory|No such device/;
const EXISTS = /Cannot create namespace file .* File exists/;

/** Makes and removes the kernel objects of sandboxes: a namespace, and a link from the worker into it. */
export class SandboxLinks {
  readonly #ip: IpBatch;
  readonly #mtu: () => number;

  constructor({ ip, mtu }: { ip: IpBatch; mtu: () => number }) {
    this.#ip = ip;
    this.#mtu = mtu;
  }

  /**
   * The worker's end is up, but without a route to it. On failure nothing is left behind. Takes about 20 ms. By `ip`s of their own:
   * the long-lived one would keep the namespace open, and so alive, until it ends.
   */
  async make(address: number, gateway: number): Promise<void> {
    const [link, namespace, mtu] = [linkName(address), namespaceName(address), this.#mtu()];
    try {
      await runBatch("ip", [
        `netns add ${namespace}`,
        `link add ${link} address ${SANDBOX_GATEWAY_MAC} group ${SANDBOX_GROUP} mtu ${mtu} type veth peer name eth0 address ${macAddress(address)} mtu ${mtu} netns ${namespace}`,
        `link set dev ${link} addrgenmode none up`,
      ]);
      await Promise.all([
        runBatch("ip", inside(address, gateway), { namespace }),
        writeSysctls({
          // Lets the worker itself reach published ports on 127.0.0.1; what sandboxes send there is dropped by rule.
          [`ipv4/conf/${link}/route_localnet`]: "1",
          [`ipv6/conf/${link}/disable_ipv6`]: "1",
        }),
      ]);
    } catch (error) {
      // One that exists is not ours to remove.
      if (!EXISTS.test(describeError(error))) await this.remove(address).catch(() => {});
      throw error;
    }
  }

  /** Writes the owner where a restarted agent, and `ip link`, will find it. */
  async own(address: number, instanceId: string): Promise<void> {
    await this.#ip.run([`link set dev ${linkName(address)} alias ${instanceId}`]);
  }

  async remove(address: number): Promise<void> {
    await this.removeByName({ link: linkName(address), namespace: namespaceName(address) });
  }

  /**
   * Two batches on purpose: of many removals at once all namespaces are gone before the first link is waited for, and the kernel
   * tears them down together, links included (20 in 55 ms, where 20 links one by one take 500).
   */
  async removeByName({ link, namespace }: { link?: string; namespace?: string }): Promise<void> {
    if (namespace !== undefined) await this.#ip.run([`netns delete ${namespace}`], { tolerate: GONE });
    if (link !== undefined) await this.#ip.run([`link delete ${link}`], { tolerate: GONE });
  }
}

/** Alone on its link: one address, and one neighbour that never has to be asked for. */
function inside(address: number, gateway: number): string[] {
  const next = formatAddress(gateway);
  return [
    "link set lo up",
    `address add ${formatAddress(address)}/32 dev eth0`,
    "link set eth0 addrgenmode none",
    "link set eth0 up",
    `neighbour replace ${next} lladdr ${SANDBOX_GATEWAY_MAC} dev eth0 nud permanent`,
    `route add default via ${next} dev eth0 onlink`,
  ];
}
