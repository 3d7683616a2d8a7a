import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { documentFromFlags, parseTopology } from "./topology.ts";

const root = { name: "root", role: "root" };
const hq = { name: "hq", hosts: [root] };

test("flags make one site for the root and one for each cluster", () => {
  const topology = parseTopology(
    documentFromFlags({ clusters: 2, workers: 1, delay: "20ms", loss: "1.5%", nat: true }),
  );
  assert.deepEqual(
    topology.sites.map(({ name, nat, hosts }) => [name, nat, hosts.map((host) => host.name)]),
    [
      ["hq", false, ["root"]],
      ["edge1", true, ["c1", "c1w1"]],
      ["edge2", true, ["c2", "c2w1"]],
    ],
  );
  const link = { delayMs: 20, jitterMs: 0, lossPercent: 1.5, bitsPerSecond: undefined };
  assert.deepEqual(topology.links, [
    { between: ["hq", "edge1"], link },
    { between: ["hq", "edge2"], link },
    { between: ["edge1", "edge2"], link },
  ]);
  assert.equal(topology.sites[1]!.hosts[1]!.cluster, "c1");
});

test("a link without delay, jitter, loss and limit is a cable", () => {
  for (const link of [undefined, {}, { delay: "0ms", loss: "0%" }]) {
    const { links } = parseTopology({ ...(link ? { link } : {}), sites: [hq, { name: "a", hosts: [{ name: "x" }] }] });
    assert.equal(links[0]!.link, undefined);
  }
});

test("a link of its own goes before the one for all, whichever way its sites are named", () => {
  const { links } = parseTopology({
    link: { delay: "1s" },
    sites: [
      hq,
      { name: "a", hosts: [{ name: "x", link: { bandwidth: "10mbit" } }] },
      { name: "b", hosts: [{ name: "y" }] },
    ],
    links: [{ between: ["b", "hq"], delay: "5ms", jitter: "1ms", bandwidth: "2.5mbit" }],
  });
  assert.deepEqual(links[1]!.link, { delayMs: 5, jitterMs: 1, lossPercent: 0, bitsPerSecond: 2_500_000 });
  assert.equal(links[0]!.link?.delayMs, 1000);
});

test("what is wrong is named by field", () => {
  const worker = (more = {}) => ({ name: "w", role: "worker", ...more });
  const cluster = (name: string) => ({ name, role: "cluster" });
  const site = (hosts: unknown[], more = {}) => ({ name: "a", hosts, ...more });
  const cases: [unknown, RegExp][] = [
    [{}, /sites: /],
    [{ sites: [] }, /sites: /],
    [{ sites: [hq], links: [{ between: ["hq"] }] }, /links\[0\]\.between/],
    [{ sites: [hq], colour: "red" }, /colour/],
    [{ sites: [{ name: "HQ", hosts: [root] }] }, /sites\[0\]\.name: write lower-case/],
    [{ sites: [hq, site([{ name: "x", role: "king" }])] }, /sites\[1\]\.hosts\[0\]\.role/],
    [{ link: { delay: "20" }, sites: [hq] }, /link\.delay: write a time of at most 60s, such as 20ms/],
    [{ link: { delay: 20 }, sites: [hq] }, /link\.delay: write a time/],
    [{ link: { delay: "61s" }, sites: [hq] }, /link\.delay/],
    [{ link: { loss: "101%" }, sites: [hq] }, /link\.loss: write a share/],
    [{ link: { bandwidth: "0mbit" }, sites: [hq] }, /link\.bandwidth: write a rate/],
    [{ sites: [site([{ name: "x" }])] }, /exactly one host has the role root, not 0/],
    [{ sites: [hq, site([{ name: "r2", role: "root" }])] }, /exactly one host has the role root, not 2/],
    [{ sites: [{ ...hq, nat: true }] }, /sites\[0\]\.nat: nobody could reach the root/],
    [
      { sites: [hq, site([{ name: "root" }])] },
      /sites\[1\]\.hosts\[0\]\.name: the name "root" is taken by sites\[0\]\.hosts\[0\]/,
    ],
    [{ sites: [hq, site([{ name: "hq" }])] }, /the name "hq" is taken/],
    [{ sites: [hq, site([worker()])] }, /sites\[1\]\.hosts\[0\]\.cluster: name the worker's cluster/],
    [{ sites: [hq, site([worker(), cluster("c"), cluster("d")])] }, /name the worker's cluster/],
    [{ sites: [hq, site([worker({ cluster: "z" })])] }, /no host "z" has the role cluster/],
    [{ sites: [hq, site([worker({ cluster: "root" })])] }, /no host "root" has the role cluster/],
    [{ sites: [hq, site([{ ...cluster("c"), cluster: "c" }])] }, /only a worker has a cluster/],
    [
      { sites: [{ name: "hq", hosts: [root, worker({ cluster: "c" })] }, site([cluster("c")], { nat: true })] },
      /sites\[0\]\.hosts\[1\]\.cluster: "c" is behind NAT/,
    ],
    [{ sites: [hq], links: [{ between: ["hq", "b"] }] }, /links\[0\]\.between: no site is called "b"/],
    [{ sites: [hq], links: [{ between: ["hq", "hq"] }] }, /links\[0\]\.between: a link needs two sites/],
    [
      { sites: [hq, site([{ name: "x" }])], links: [{ between: ["hq", "a"] }, { between: ["a", "hq"] }] },
      /links\[1\]\.between: the link between "a" and "hq" is described twice/,
    ],
  ];
  for (const [document, message] of cases) {
    assert.throws(() => parseTopology(document), { code: "CONFIG_INVALID", message }, JSON.stringify(document));
  }
});

test("the topology that docs/lab.md shows is one", () => {
  const text = readFileSync(new URL("../../docs/lab.md", import.meta.url), "utf8");
  const { sites, links } = parseTopology(parse(/```yaml\n(.*?)```/s.exec(text)![1]!));
  assert.equal(sites.length, 4);
  assert.equal(sites[2]!.hosts[0]!.cluster, "far");
  assert.equal(links[0]!.link?.lossPercent, 0.5);
});
