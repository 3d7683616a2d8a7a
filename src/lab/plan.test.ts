import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { contains, overlaps, parseAddress, parseSubnet } from "../addressing/subnet.ts";
import { type Cut, checkCut, isSameCut, routerRules } from "./cuts.ts";
import { freeNetwork, type LabPlan, machineDevice, parseNetwork, planLab, takenSubnets } from "./plan.ts";
import { hostFiles } from "./roles.ts";
import { documentFromFlags, parseTopology } from "./topology.ts";

const network = parseNetwork("10.213.16.0/20");
const flags = { clusters: 2, workers: 2, delay: "20ms" };
const plan = (options: { hasNetem?: boolean; nat?: boolean; delay?: string | undefined } = {}): LabPlan => {
  const { hasNetem = true, ...more } = options;
  return planLab(parseTopology(documentFromFlags({ ...flags, ...more })), { network, hasNetem });
};

test("no address is given twice, all are the lab's, and every device name fits", () => {
  const counts = fc.record({ clusters: fc.integer({ min: 0, max: 12 }), workers: fc.integer({ min: 0, max: 5 }) });
  fc.assert(
    fc.property(counts, fc.boolean(), (numbers, hasNetem) => {
      const topology = parseTopology(documentFromFlags({ ...numbers, delay: "1ms" }));
      const { routers, hosts, machine } = planLab(topology, { network, hasNetem });
      const commands = [...routers.flatMap(({ ip }) => ip), ...hosts.flatMap(({ plug }) => plug.inside)];
      const added = commands.flatMap((line) => /^address add ([\d.]+)/.exec(line)?.[1] ?? []);
      const all = [...added, machine.address];
      assert.equal(new Set(all).size, all.length);
      assert.ok(all.every((address) => contains(network, parseAddress(address)!)));
      const devices = commands.flatMap((line) =>
        [...line.matchAll(/(?:dev|name|link add|link set) (\S+)/g)].map(([, name]) => name!),
      );
      assert.ok([...devices, machine.device].every((name) => name.length <= 15));
    }),
  );
});

test("a network that is too small is refused with what is needed", () => {
  const topology = parseTopology(documentFromFlags({ clusters: 14, workers: 0 }));
  assert.throws(() => planLab(topology, { network, hasNetem: true }), {
    code: "NETWORK_TOO_SMALL",
    message: /15 sites need 17 blocks of 256 addresses, and 10\.213\.16\.0\/20 has 16/,
  });
  assert.doesNotThrow(() => planLab(topology, { network: parseNetwork("10.213.0.0/17"), hasNetem: true }));
});

test("with netem the kernel shapes both ends of each slow link, and no process carries anything", () => {
  const { routers, carried } = plan({ hasNetem: true });
  assert.deepEqual(carried, []);
  assert.deepEqual(
    routers.map(({ tc }) => tc),
    [
      [
        "qdisc replace dev to1 root netem limit 20000 delay 20ms",
        "qdisc replace dev to2 root netem limit 20000 delay 20ms",
      ],
      [
        "qdisc replace dev to0 root netem limit 20000 delay 20ms",
        "qdisc replace dev to2 root netem limit 20000 delay 20ms",
      ],
      [
        "qdisc replace dev to0 root netem limit 20000 delay 20ms",
        "qdisc replace dev to1 root netem limit 20000 delay 20ms",
      ],
    ],
  );
  assert.ok(routers[0]!.ip.includes("link add to1 type veth peer name to0 netns @edge1"));
});

test("without netem slow links are carried, and cables are not", () => {
  const { routers, carried } = plan({ hasNetem: false });
  assert.deepEqual(
    carried.map(({ ends }) => ends.map(({ router, device }) => `${router}/${device}`).join(" ")),
    ["hq/to1 edge1/to0", "hq/to2 edge2/to0", "edge1/to2 edge2/to1"],
  );
  assert.ok(routers.every(({ ip, tc }) => tc.length === 0 && !ip.some((line) => line.includes("veth"))));
  assert.deepEqual(plan({ hasNetem: false, delay: undefined }).carried, []);
});

test("a host's own slow link is shaped on its way into the bridge", () => {
  const sites = [
    {
      name: "hq",
      hosts: [{ name: "root", role: "root", link: { delay: "3ms", jitter: "1ms", loss: "2%", bandwidth: "1mbit" } }],
    },
  ];
  const topology = parseTopology({ sites });
  const [shaped] = planLab(topology, { network, hasNetem: true }).hosts;
  const netem = "root netem limit 20000 delay 3ms 1ms loss 2% rate 1000000bit";
  assert.deepEqual(shaped!.plug.routerTc, [`qdisc replace dev p0 ${netem}`]);
  assert.deepEqual(shaped!.plug.insideTc, [`qdisc replace dev eth0 ${netem}`]);
  const { hosts, carried, routers } = planLab(topology, { network, hasNetem: false });
  assert.equal(hosts[0]!.port, "d0b");
  assert.deepEqual(hosts[0]!.plug.router, [
    "link add p0 type veth peer name eth0 netns @root",
    "link set p0 master b0 up",
  ]);
  assert.deepEqual(
    carried[0]!.ends.map(({ device }) => device),
    ["d0a", "d0b"],
  );
  assert.ok(routers[0]!.ip.includes("link set d0b master lan up"));
});

test("a free part of a range is one that shares nothing with this machine's networks", () => {
  const addresses =
    "2: eth0    inet 10.213.17.9/24 brd 10.213.17.255 scope global eth0\n1: lo    inet 127.0.0.1/8 scope host lo";
  const routes =
    "default via 192.0.2.1 dev eth0\n10.213.0.0/20 via 10.213.0.2 dev ol0ad50000\nunreachable 10.213.40.0/24 \n";
  const taken = takenSubnets(addresses, routes);
  assert.deepEqual(
    taken.map(({ prefix }) => prefix),
    [24, 8, 20, 24],
  );
  const free = freeNetwork(parseNetwork("10.213.0.0/17"), 20, taken);
  assert.equal(free.base, parseAddress("10.213.48.0"));
  assert.ok(taken.every((other) => !overlaps(other, free)));
  assert.throws(() => freeNetwork(network, 20, taken), { code: "NETWORK_TAKEN" });
  assert.equal(machineDevice(parseSubnet("10.213.0.0/20")), "ol0ad50000");
});

test("a network that is none is refused", () => {
  for (const text of ["10.213.0.0", "10.213.0.1/20", "x/8"]) {
    assert.throws(() => parseNetwork(text), { code: "CONFIG_INVALID" });
  }
});

test("a cut within a site is between ports, one across sites between addresses, in both routers", () => {
  const lab = plan();
  const [, edge1, edge2] = lab.routers;
  const within = routerRules(lab, edge1!, [{ a: "c1w1", b: "c1" }]);
  assert.match(within, /iifname "p1" oifname "p0" drop\n\s+iifname "p0" oifname "p1" drop/);
  for (const router of [edge1!, edge2!]) {
    const across = routerRules(lab, router, [{ a: "c1", b: "c2" }]);
    assert.match(
      across,
      /ip saddr 10\.213\.18\.2 ip daddr 10\.213\.19\.2 drop\n\s+ip saddr 10\.213\.19\.2 ip daddr 10\.213\.18\.2 drop/,
    );
  }
  assert.doesNotMatch(routerRules(lab, lab.routers[0]!, [{ a: "c1", b: "c2" }]), /drop/);
});

test("a cut of sites is one of all their hosts; a host or site alone loses everything", () => {
  const lab = plan();
  const rules = (cut: Cut, site = 1) => routerRules(lab, lab.routers[site]!, [cut]);
  assert.equal(rules({ a: "edge1", b: "edge2" }).match(/ip saddr/g)?.length, 18);
  assert.equal(rules({ a: "c1w2" }).match(/[io]ifname "p2" drop/g)?.length, 3);
  assert.doesNotMatch(rules({ a: "c1w2" }, 2), /drop/);
  assert.match(rules({ a: "edge1" }), /iifname "to\*" drop\n\s+oifname "to\*" drop/);
});

test("behind NAT packets leave with the router's address, and nothing new comes in", () => {
  const lab = plan({ nat: true });
  assert.match(
    routerRules(lab, lab.routers[1]!, []),
    /iifname "to\*" ct state new drop[\s\S]*oifname "to\*" masquerade/,
  );
  assert.doesNotMatch(routerRules(lab, lab.routers[0]!, []), /masquerade|new drop/);
});

test("cuts name hosts and sites of the lab", () => {
  assert.doesNotThrow(() => checkCut(plan(), { a: "hq", b: "c1" }));
  assert.throws(() => checkCut(plan(), { a: "hq", b: "c9" }), {
    code: "NOT_FOUND",
    message: /"c9"; there are hq, edge1/,
  });
  assert.throws(() => checkCut(plan(), { a: "hq", b: "hq" }), { code: "INPUT_INVALID" });
  assert.ok(isSameCut({ a: "x", b: "y" }, { a: "y", b: "x" }));
  assert.ok(!isSameCut({ a: "x", b: "y" }, { a: "x" }));
});

test("each role is told where the one above it is, and topology settings go along", () => {
  const topology = parseTopology({
    sites: [
      { name: "hq", hosts: [{ name: "root", role: "root" }] },
      {
        name: "a",
        hosts: [
          { name: "c", role: "cluster", settings: { location: "lab", root: "http://x" } },
          { name: "w", role: "worker" },
          { name: "n" },
        ],
      },
    ],
  });
  const lab = planLab(topology, { network, hasNetem: true });
  const files = lab.hosts.map((host) => hostFiles(lab, host, "/f"));
  const settings = files.map((one) => JSON.parse(one["oak.json"] ?? "null") as unknown);
  const common = { logFormat: "text" };
  assert.deepEqual(settings, [
    { ...common, host: "0.0.0.0" },
    {
      ...common,
      name: "c",
      location: "lab",
      root: "http://10.213.17.2:10000",
      host: "0.0.0.0",
      joinTokenFile: "/f/join-token",
    },
    { ...common, cluster: "http://10.213.18.2:10100", joinTokenFile: "/f/join-token" },
    null,
  ]);
  assert.deepEqual(
    files.map((one) => one["boot.sh"]!.match(/^keep \w+/gm)),
    [["keep oak"], ["keep oak"], ["keep containerd", "keep oak"], null],
  );
});
