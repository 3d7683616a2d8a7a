/** From state to the kernel's words: golden texts, and what must hold for any state. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import fc from "fast-check";
import { parseAddress, parseSubnet } from "../addressing/subnet.ts";
import { asChanges, Balancing, HOT_LIMIT } from "./balancing.ts";
import { compileBalancing } from "./balancing-text.ts";
import { compile, compileChange } from "./compile.ts";
import { readPorts, withPorts } from "./host-ports.ts";
import { compileIpState, ipCommands } from "./ip-state.ts";
import {
  initialState,
  type KernelPeer,
  type KernelState,
  withIdentity,
  withoutSandbox,
  withSandbox,
} from "./kernel-state.ts";
import type { ServiceRoutes } from "./overlay.ts";
import { frameOf, planOverlay } from "./overlay-plan.ts";
import { formatRanges, mergeRanges } from "./ranges.ts";

const at = (text: string) => parseAddress(text)!;
const plan = planOverlay({ subnets: ["10.18.0.0/26"], guardedPorts: [10003, 10100] });
const use = { subnets: plan.subnets, peerSubnets: [], clashing: [], hasFastPath: true };
const empty = initialState(frameOf(plan, use));
const near: KernelPeer = {
  id: "near",
  number: 1,
  address: at("192.0.2.2"),
  subnets: [parseSubnet("10.18.0.64/26")],
  path: "plain",
  neighbour: { link: "eth0", mac: "52:54:00:00:00:02" },
};
const far: KernelPeer = {
  id: "far",
  number: 7,
  address: at("203.0.113.3"),
  subnets: [parseSubnet("10.18.0.128/26"), parseSubnet("10.20.0.0/26")],
  path: "vxlan",
};
const busy: KernelState = {
  ...empty,
  sandboxes: [at("10.18.0.2"), at("10.18.0.62")],
  identities: new Map([[at("10.18.0.2"), at("10.30.1.1")]]),
  ports: [
    { protocol: "tcp", hostPort: 6080, containerPort: 80, address: at("10.18.0.2") },
    { protocol: "udp", hostPort: 53, containerPort: 53, address: at("10.18.0.2") },
  ],
  peers: [near, far],
  guardedHosts: [at("198.51.100.1")],
};

function service(number: number, sandboxes: readonly (string | undefined)[], closestTarget?: string): ServiceRoutes {
  return {
    id: `service-${number}`,
    roundRobin: `10.30.5.${number}`,
    closest: `10.30.6.${number}`,
    closestTarget,
    instances: sandboxes.map((sandbox, index) => ({ address: `10.30.${100 + number}.${index + 1}`, sandbox })),
  };
}

test("compile() gives the tables of the specification", () => {
  assert.equal(compile(busy), readFileSync(join(import.meta.dirname, "compile.golden.nft"), "utf8"));
});

test("compileChange() is empty when nothing differs, and else names what goes before what comes", () => {
  assert.equal(compileChange(busy, busy), "");
  const next = withIdentity(withSandbox(withoutSandbox(busy, at("10.18.0.2")), at("10.18.0.3")), at("10.18.0.3"), 1);
  assert.equal(
    compileChange(busy, { ...next, peers: [near] }),
    `delete element ip oakestra sandboxes { "oak0a120002" . 10.18.0.2 }
delete element ip oakestra self { 10.18.0.2 : 10.30.1.1 }
delete element ip oakestra host_ports { tcp . 6080 : 10.18.0.2 . 80, udp . 53 : 10.18.0.2 . 53 }
delete element ip oakestra peers { "oakvx" . 02:18:cb:00:71:03 : 0x0a1e0007 }
delete element ip oakestra vteps { 203.0.113.3 }
delete element ip oakestra hosts { 203.0.113.3 }
delete element netdev oakestra macs { 0x0a1e0007 : 0xcb007103 }
add element ip oakestra sandboxes { "oak0a120003" . 10.18.0.3 }
add element ip oakestra self { 10.18.0.3 : 0.0.0.1 }
`,
  );
});

test("compileBalancing() puts each address where its number of sandboxes belongs", () => {
  const balancing = new Balancing();
  const first = balancing.update([service(1, ["10.18.0.2", "10.18.0.66", undefined], "10.18.0.66"), service(2, [])]);
  assert.equal(
    compileBalancing(first, new Set()),
    `add chain ip oakestra lb_0a1e0501
add element ip oakestra svc1 { 10.30.101.1 : 10.18.0.2, 10.30.101.2 : 10.18.0.66, 10.30.6.1 : 10.18.0.66 }
add element ip oakestra idle { 10.30.101.3, 10.30.6.2, 10.30.5.2 }
add element ip oakestra hotinst { 10.30.5.1 . 0 : 10.18.0.2, 10.30.5.1 . 1 : 10.18.0.66 }
add rule ip oakestra lb_0a1e0501 dnat ip to ip daddr . numgen inc mod 2 map @hotinst
add element ip oakestra hot { 10.30.5.1 : goto lb_0a1e0501 }
`,
  );
  const second = balancing.update([service(1, ["10.18.0.2", undefined, undefined], "10.18.0.2")]);
  assert.equal(
    compileBalancing(second, new Set()),
    `delete element ip oakestra idle { 10.30.6.2, 10.30.5.2 }
delete element ip oakestra svc1 { 10.30.101.2, 10.30.6.1 }
delete element ip oakestra hotinst { 10.30.5.1 . 0, 10.30.5.1 . 1 }
delete element ip oakestra hot { 10.30.5.1 }
add element ip oakestra idle { 10.30.101.2 }
add element ip oakestra svc1 { 10.30.6.1 : 10.18.0.2, 10.30.5.1 : 10.18.0.2 }
flush chain ip oakestra lb_0a1e0501
delete chain ip oakestra lb_0a1e0501
`,
  );
});

test("beyond the limit of counters, services share a chain by their number of sandboxes", () => {
  const balancing = new Balancing();
  const many = Array.from({ length: HOT_LIMIT }, (_, index) => ({
    ...service(1, ["10.18.0.2", "10.18.0.3"], "10.18.0.2"),
    id: `many-${index}`,
    roundRobin: `10.30.${40 + (index >> 7)}.${1 + (index % 128)}`,
  }));
  balancing.update(many);
  const sizes = new Set<number>();
  const text = compileBalancing(
    balancing.update([...many, service(3, ["10.18.0.2", "10.18.0.3"], "10.18.0.2")]),
    sizes,
  );
  assert.match(text, /^add set ip oakestra sz2 [\s\S]*add element ip oakestra sz2 \{ 10\.30\.5\.3 \}/);
  assert.deepEqual([...sizes], [2]);
});

const services = fc.uniqueArray(fc.integer({ min: 1, max: 6 }), { maxLength: 6 }).chain((numbers) =>
  fc.tuple(
    ...numbers.map((number) =>
      fc
        .array(fc.option(fc.constantFrom("10.18.0.2", "10.18.0.3", "10.18.0.66"), { nil: undefined }), {
          maxLength: 4,
        })
        .map((list) => service(number, list, list[0])),
    ),
  ),
);

test("whatever came before, updates lead to the same elements as a table made anew, and no address is in two places", () => {
  fc.assert(
    fc.property(fc.array(services, { minLength: 1, maxLength: 5 }), (rounds) => {
      const balancing = new Balancing();
      const sizes = new Set<number>();
      const kernel = new ElementStore();
      for (const round of rounds) kernel.run(compileBalancing(balancing.update(round), sizes));
      const fresh = new ElementStore();
      fresh.run(compileBalancing(asChanges(balancing.byAddress), new Set()));
      assert.deepEqual(kernel.sorted(), fresh.sorted());
      const places = kernel
        .sorted()
        .flatMap(([set, key]) => (/^(?:hotinst|inst)$/.test(set) ? [] : [key.split(" ")[0]]));
      assert.equal(new Set(places).size, places.length);
      for (const { roundRobin, instances } of rounds.at(-1)!) {
        const live = instances.flatMap(({ sandbox }) => sandbox ?? []);
        assert.deepEqual(kernel.targets(roundRobin).sort(), live.sort());
      }
    }),
  );
});

test("updates compare by reference: what is the same object again costs nothing and changes nothing", () => {
  const balancing = new Balancing();
  const one = service(1, ["10.18.0.2"]);
  balancing.update([one]);
  assert.deepEqual(balancing.update([one]), []);
  assert.deepEqual(balancing.update([service(1, ["10.18.0.2"])]), []);
  assert.equal(balancing.update([]).length, 3);
});

test("compileIpState() gives the objects of the specification, and ipCommands() what leads there", () => {
  const subnets = [parseSubnet("10.18.0.0/26")];
  const desired = compileIpState({ state: { ...busy, sandboxes: [at("10.18.0.2")] }, subnets });
  const { bridge, ip } = ipCommands(new Map(), desired);
  assert.deepEqual(bridge, [
    "fdb replace 02:18:c0:00:02:02 dev oakvx dst 192.0.2.2 self permanent",
    "fdb replace 02:18:cb:00:71:03 dev oakvx dst 203.0.113.3 self permanent",
  ]);
  assert.deepEqual(ip, [
    "address replace 10.18.0.1/32 dev oak0",
    "route replace unreachable 10.18.0.0/26 metric 4000 proto 103",
    "route replace 10.18.0.2 dev oak0a120002 scope link src 10.18.0.1 proto 103",
    "neighbour replace 10.18.0.2 dev oak0a120002 lladdr 02:6f:0a:12:00:02 nud permanent",
    "route replace 10.30.0.0/16 via 169.254.18.1 dev oakvx src 10.18.0.1 onlink proto 103",
    "neighbour replace 169.254.18.1 dev oakvx lladdr 02:18:00:00:00:00 nud permanent",
    "neighbour replace 10.18.0.65 dev oakvx lladdr 02:18:c0:00:02:02 nud permanent",
    "route replace 10.18.0.64/26 via 192.0.2.2 dev eth0 src 10.18.0.1 proto 103",
    "neighbour replace 10.18.0.129 dev oakvx lladdr 02:18:cb:00:71:03 nud permanent",
    "route replace 10.18.0.128/26 via 10.18.0.129 dev oakvx src 10.18.0.1 onlink proto 103",
    "neighbour replace 10.20.0.1 dev oakvx lladdr 02:18:cb:00:71:03 nud permanent",
    "route replace 10.20.0.0/26 via 10.20.0.1 dev oakvx src 10.18.0.1 onlink proto 103",
    "rule add pref 18000 not fwmark 0xa1e0000/0xffff0000 goto 29000",
    "rule add pref 29000 nop",
    "route replace 10.30.0.0/16 table 50301 via 192.0.2.2 dev eth0 proto 103",
    "rule add pref 18001 fwmark 0x0a1e0001 lookup 50301",
  ]);
  assert.deepEqual(ipCommands(desired, desired), { bridge: [], ip: [] });
  const withoutPeers = compileIpState({ state: { ...empty, sandboxes: [at("10.18.0.2")] }, subnets });
  assert.ok(ipCommands(desired, withoutPeers).ip.every((command) => / del /.test(command)));
});

test("a subnet that is ours is no peer's, and the way to one that was ours comes after its address is gone", () => {
  const state = { ...busy, sandboxes: [] };
  const [before, after] = ["10.18.0.128/26", "10.18.0.0/26"].map((ours) =>
    compileIpState({ state, subnets: [parseSubnet(ours)] }),
  );
  assert.equal(before!.has("route 10.18.0.128/26"), false);
  assert.equal(before!.has("route 10.20.0.0/26"), true, "the peer's other subnet");
  const { ip } = ipCommands(before!, after!);
  assert.ok(ip.includes("address del 10.18.0.129/32 dev oak0"));
  assert.match(ip.at(-1)!, /^route replace 10\.18\.0\.128\/26 via 10\.18\.0\.129 dev oakvx /);
});

test("mergeRanges() covers the same addresses with the fewest ranges", () => {
  const ranges = (...subnets: string[]) => formatRanges(mergeRanges(subnets.map(parseSubnet)));
  assert.equal(formatRanges(empty.frame.ranges), "10.18.0.0-10.30.255.255");
  assert.equal(
    ranges("10.30.0.0/16", "10.18.0.0/26", "10.18.0.64/26"),
    "{ 10.18.0.0-10.18.0.127, 10.30.0.0-10.30.255.255 }",
  );
  assert.equal(ranges("10.18.0.0/16", "10.18.3.0/24"), "10.18.0.0-10.18.255.255");
});

test("withPorts() gives a sandbox exactly the ports wanted, leaves the others', and is idempotent", () => {
  const port = fc.record({
    hostPort: fc.integer({ min: 1, max: 20 }),
    containerPort: fc.integer({ min: 1, max: 65_535 }),
    protocol: fc.constantFrom("tcp" as const, "udp" as const),
  });
  const ports = fc.uniqueArray(port, { selector: ({ hostPort, protocol }) => `${hostPort}/${protocol}`, maxLength: 5 });
  fc.assert(
    fc.property(ports, ports, (ours, theirs) => {
      const others = withPorts(empty, { address: 1, ports: theirs }, String);
      const taken = ours.find((a) => theirs.some((b) => a.hostPort === b.hostPort && a.protocol === b.protocol));
      const change = () => withPorts(others, { address: 2, ports: ours }, (address) => `instance-${address}`);
      if (taken) return void assert.throws(change, { code: "PORT_BUSY", message: /"instance-1"/ });
      const state = change();
      assert.deepEqual(withPorts(state, { address: 2, ports: ours }, String), state);
      assert.deepEqual(
        state.ports.filter(({ address }) => address === 1),
        others.ports,
      );
      assert.deepEqual(withPorts(state, { address: 2, ports: [] }, String), others);
    }),
  );
});

test("readPorts() reads nft's JSON, with protocols by name or by number, and leaves out what is not ours", () => {
  const row = (...values: (string | number)[]) => [{ concat: values.slice(0, 2) }, { concat: values.slice(2) }];
  const elem = [row("tcp", 6080, "10.18.0.2", 80), row("17", 53, "10.18.0.2", 53), row("sctp", 1, "10.18.0.2", 1)];
  assert.deepEqual(readPorts({ nftables: [{ metainfo: {} }, { map: { name: "host_ports", elem } }] }), busy.ports);
  assert.deepEqual(readPorts({ nftables: [{ map: { name: "host_ports" } }] }), []);
});

/** What nft would have after some commands: enough of it to compare sets and maps, and to follow an address to its sandboxes. */
class ElementStore {
  readonly #elements = new Map<string, string>();

  run(text: string): void {
    for (const line of text.split("\n")) {
      const [, verb, set, list] = /^(add|delete) element ip oakestra (\S+) \{ (.*) \}$/.exec(line) ?? [];
      for (const element of list?.split(", ") ?? []) {
        const [key = "", value = ""] = element.split(" : ");
        if (verb === "delete") assert.ok(this.#elements.delete(`${set} ${key}`), `${line}: no such element`);
        else {
          assert.ok(!this.#elements.has(`${set} ${key}`), `${line}: exists`);
          this.#elements.set(`${set} ${key}`, value);
        }
      }
    }
  }

  sorted(): [string, string][] {
    return [...this.#elements.keys()]
      .map((name): [string, string] => [name.slice(0, name.indexOf(" ")), name.slice(name.indexOf(" ") + 1)])
      .sort((left, right) => left.join().localeCompare(right.join()));
  }

  targets(address: string): string[] {
    return [...this.#elements].flatMap(([name, value]) =>
      name === `svc1 ${address}` || name.startsWith(`hotinst ${address} . `) || name.startsWith(`inst ${address} . `)
        ? [value]
        : [],
    );
  }
}
