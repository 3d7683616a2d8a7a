/** What the network reads of the host, and what it concludes from it: pure parts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { parseSubnet } from "../addressing/subnet.ts";
import { adopt } from "./adoption.ts";
import { findClash, foreignRoutes, parseDestination, withoutClashes } from "./clash.ts";
import { droppingForwardChains } from "./foreign-chains.ts";
import { sandboxResolvConf } from "./resolv-conf.ts";
import { addressOfLink, isOurNamespace, linkName, namespaceName } from "./sandbox-names.ts";
import { listeningInode } from "./sockets.ts";

const subnet = parseSubnet("10.18.0.0/22");

test("a sandbox's names fit the kernel's limit and tell its address", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 32 - 1 }), (address) => {
      assert.equal(addressOfLink(linkName(address)), address);
      assert.ok(linkName(address).length <= 15);
      assert.ok(isOurNamespace(namespaceName(address)));
    }),
  );
  for (const name of ["oak0", "oakvx", "oaktun", "eth0", "oak0a12000g"]) assert.equal(addressOfLink(name), undefined);
  for (const name of ["oak-lab", "cni-1", "oak-10.18.0"]) assert.equal(isOurNamespace(name), false);
});

test("adopt() keeps whole sandboxes that have an owner, and calls everything else of ours an orphan", () => {
  const address = fc.integer({ min: subnet.base + 2, max: subnet.base + 20 });
  const halves = fc.uniqueArray(
    fc.record({
      address,
      link: fc.boolean(),
      namespace: fc.boolean(),
      alias: fc.option(fc.constantFrom("a", "b", "c"), { nil: undefined }),
    }),
    { selector: (half) => half.address },
  );
  fc.assert(
    fc.property(halves, (found) => {
      const links = found.filter(({ link }) => link).map(({ address, alias }) => ({ name: linkName(address), alias }));
      const namespaces = found.filter(({ namespace }) => namespace).map(({ address }) => namespaceName(address));
      const { owned, orphanLinks, orphanNamespaces } = adopt({ links, namespaces });
      assert.equal(owned.size + orphanLinks.length, links.length);
      assert.equal(owned.size + orphanNamespaces.length, namespaces.length);
      for (const [instanceId, address] of owned) {
        assert.ok(
          found.some((half) => half.address === address && half.alias === instanceId && half.link && half.namespace),
        );
      }
    }),
  );
});

test("adopt() leaves foreign objects alone, and keeps sandboxes of whatever subnet", () => {
  const links = [
    { name: "eth0", alias: undefined },
    { name: "oak0", alias: undefined },
    { name: "oak0a630002", alias: "a" },
  ];
  const { owned, orphanLinks, orphanNamespaces } = adopt({ links, namespaces: ["lab", "oak-lab", "oak-10.99.0.2"] });
  assert.deepEqual([[...owned.keys()], orphanLinks, orphanNamespaces], [["a"], [], []]);
});

test("findClash() finds wider and narrower routes, and neither the default route nor our own bridge", () => {
  const route = (text: string, device = "eth0") => ({ destination: parseDestination(text)!, device });
  for (const text of ["10.0.0.0/8", "10.18.0.0/22", "10.18.3.0/24", "10.18.0.7"]) {
    assert.equal(findClash(subnet, [route("default"), route(text)])?.device, "eth0", text);
  }
  const harmless = [route("default"), route("10.18.4.0/22"), route("192.0.2.0/24"), route("10.18.0.0/22", "oak0")];
  assert.equal(findClash(subnet, harmless), undefined);
});

test("another worker's subnets hide no route of the host", () => {
  const host = ["default", "192.168.5.0/24", "172.17.0.0/16"].map((text) => ({
    ...{ destination: parseDestination(text)!, device: "eth0" },
  }));
  const ours = { destination: parseDestination("10.18.0.64/26")!, device: "eth0", isOurs: true };
  const routes = foreignRoutes([...host, ours]);
  assert.equal(routes.length, 2);
  const subnets = ["10.18.0.64/26", "192.168.5.0/26", "0.0.0.0/0"];
  assert.deepEqual(withoutClashes({ id: "w1", subnets }, routes), { id: "w1", subnets: ["10.18.0.64/26"] });
});

test("a sandbox's resolv.conf has the host's servers, and none that only the host or IPv6 reaches", () => {
  const stub = "nameserver 127.0.0.53\noptions edns0\nsearch lan\n";
  const upstream = "# by systemd\nnameserver 192.0.2.53\nnameserver fd00::1\nsearch lan\n";
  assert.equal(sandboxResolvConf([stub, upstream]), "nameserver 192.0.2.53\nsearch lan\n");
  assert.equal(sandboxResolvConf(["nameserver 8.8.8.8", upstream]), "nameserver 8.8.8.8\n");
  assert.match(sandboxResolvConf([stub, ""]), /^#/);
  assert.equal(sandboxResolvConf([stub, upstream], "10.18.0.1"), "nameserver 10.18.0.1\n");
});

test("listeningInode() finds listeners on IPv4 and IPv6, and leaves out clients and other loopback addresses", () => {
  const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
  const row = (local: string, state: string, inode: number) =>
    `   0: ${local} 00000000:0000 ${state} 00000000:00000000 00:00000000 00000000     0        0 ${inode} 1 0\n`;
  const port = 8080;
  const table = (...rows: string[]) => head + rows.join("");
  assert.equal(listeningInode(table(row("00000000:1F90", "0A", 7)), port, "tcp"), "7");
  assert.equal(listeningInode(table(row("0100007F:1F90", "0A", 8)), port, "tcp"), "8");
  assert.equal(listeningInode(table(row("00000000000000000000000000000000:1F90", "0A", 9)), port, "tcp"), "9");
  assert.equal(
    listeningInode(table(row("3500007F:1F90", "0A", 7), row("0100007F:1F90", "01", 7)), port, "tcp"),
    undefined,
  );
  assert.equal(listeningInode(table(row("00000000:1F90", "07", 6)), port, "udp"), "6");
  assert.equal(listeningInode("", port, "udp"), undefined);
});

test("droppingForwardChains() names chains of others that drop forwarded IPv4", () => {
  const chain = (family: string, table: string, hook: string | undefined, policy: string) => ({
    chain: { family, table, name: "FORWARD", hook, policy },
  });
  const listing = {
    nftables: [
      { metainfo: {} },
      chain("ip", "filter", "forward", "drop"),
      chain("ip6", "filter", "forward", "drop"),
      chain("inet", "fw", "forward", "accept"),
      chain("ip", "filter", "input", "drop"),
      chain("ip", "oakestra", "forward", "drop"),
    ],
  };
  assert.deepEqual(droppingForwardChains(listing), ["ip filter FORWARD"]);
});
