/** The overlay's packet paths of src/net/README.md, between three workers made of namespaces. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { Peer, Routes, ServiceRoutes } from "../../src/net/overlay.ts";
import { eventually } from "../support/eventually.ts";
import { type LabWorker, makeSegments, makeWorker, removeLab, type SandboxClient } from "../support/overlay-lab.ts";
import { isInside } from "./network-namespaces.ts";

if (isInside(import.meta.filename)) defineTests();

function defineTests(): void {
  let workers: LabWorker[] = [];
  /** By name: `11` is the first sandbox of the first worker. */
  const clients = new Map<string, SandboxClient>();
  const sandboxes = new Map<string, string>();
  const names = [1, 2, 3].flatMap((worker) => [1, 2, 3].map((number) => `${worker}${number}`));

  const subnetOf = (worker: number) => `10.18.0.${64 * (worker - 1)}/26`;
  const instanceOf = (name: string) => `10.30.1.${name}`;
  const client = (name: string) => clients.get(name)!;

  function service(number: number, members: readonly string[], closest?: string): ServiceRoutes {
    return {
      id: `service-${number}`,
      roundRobin: `10.30.5.${number}`,
      closest: `10.30.6.${number}`,
      closestTarget: closest && sandboxes.get(closest),
      instances: members.map((name) => ({ address: `10.30.${100 + number}.${name}`, sandbox: sandboxes.get(name) })),
    };
  }

  function peersOf(worker: number, paths: Record<number, "plain" | "vxlan"> = {}): Peer[] {
    return workers
      .filter(({ number }) => number !== worker)
      .map(({ number, address }) => ({
        id: `worker-${number}`,
        address,
        subnets: [subnetOf(number)],
        path: paths[number] ?? (number < 3 && worker < 3 ? "plain" : "vxlan"),
      }));
  }

  const own = (): ServiceRoutes => ({
    id: "own",
    roundRobin: "10.30.2.1",
    closest: "10.30.2.2",
    instances: names.map((name) => ({ address: instanceOf(name), sandbox: sandboxes.get(name) })),
  });

  function routes(worker: number, services: readonly ServiceRoutes[] = []): Routes {
    return { services: [own(), ...services], peers: peersOf(worker) };
  }

  async function setAll(services: readonly ServiceRoutes[]): Promise<void> {
    await Promise.all(workers.map(({ agent, number }) => agent.setRoutes(routes(number, services))));
  }

  before(async () => {
    await makeSegments();
    workers = await Promise.all([makeWorker(1, "a"), makeWorker(2, "a"), makeWorker(3, "b")]);
    await Promise.all(
      workers.map(async ({ agent, number, address }) => {
        await agent.configure({
          subnets: [subnetOf(number)],
          address,
          guardedPorts: [10003],
          guardedHosts: ["192.0.2.254"],
        });
        await agent.start();
      }),
    );
    await Promise.all(
      names.map(async (name) => {
        const worker = workers[Number(name[0]) - 1]!;
        await worker.agent.setIdentity(name, instanceOf(name));
        const sandbox = await worker.agent.attach(name);
        sandboxes.set(name, sandbox.address);
        clients.set(name, await worker.enter(sandbox, name));
      }),
    );
    await setAll([]);
  });
  after(removeLab);

  test("an instance address is reached on the same worker, by plain route and by tunnel, and the source is an instance address", async () => {
    for (const [from, to] of [
      ["11", "12"],
      ["11", "21"],
      ["21", "12"],
      ["11", "31"],
      ["31", "11"],
      ["32", "22"],
      ["11", "11"],
    ] as const) {
      const answer = `${to} ${instanceOf(from)}`;
      assert.equal(await client(from).ask({ host: instanceOf(to) }), answer);
      assert.equal(await client(from).ask({ host: instanceOf(to), udp: true }), answer);
    }
  });

  test("peers on a common link are reached by plain routes, others by the tunnel", async () => {
    const plain = await eventually(async () => {
      const shown = await workers[0]!.run("ip", "route", "show", subnetOf(2));
      return shown.includes("dev up0") ? shown : undefined;
    });
    assert.match(plain, /via 192\.0\.2\.2 dev up0 .*src 10\.18\.0\.1/);
    assert.match(await workers[0]!.run("ip", "route", "show", subnetOf(3)), /via 10\.18\.0\.129 dev oakvx/);
    for (const [from, to] of [
      ["11", "21"],
      ["21", "11"],
      ["31", "21"],
    ] as const) {
      assert.equal(await client(from).ask({ host: instanceOf(to) }), `${to} ${instanceOf(from)}`);
    }
  });

  test("round robin takes its servers in turn, with TCP, UDP and a service of one", async () => {
    await setAll([service(9, names), service(1, ["31"])]);
    const { answers, failures } = await client("13").askMany("10.30.5.9", 90);
    assert.deepEqual(failures, []);
    assert.deepEqual(answers, Object.fromEntries(names.map((name) => [name, 10])));
    const udp = await Promise.all(Array.from({ length: 9 }, () => client("23").ask({ host: "10.30.5.9", udp: true })));
    assert.equal(new Set(udp).size, 9);
    assert.equal(await client("11").ask({ host: "10.30.5.1" }), `31 ${instanceOf("11")}`);
  });

  test("closest goes where it is said, and established connections stay when that changes", async () => {
    await setAll([service(2, ["12", "21", "31"], "21")]);
    assert.match(await client("11").open(1, "10.30.6.2"), /^21 /);
    await setAll([service(2, ["12", "21", "31"], "31")]);
    assert.equal(await client("11").ask({ host: "10.30.6.2" }), `31 ${instanceOf("11")}`);
    assert.equal(await client("11").say(1, "still there"), "still there");
  });

  test("ping of a service address is answered, also across workers", async () => {
    for (const host of ["10.30.6.2", instanceOf("12"), instanceOf("21"), instanceOf("31")]) {
      assert.match(
        await workers[0]!.inSandbox(sandboxes.get("11")!, "busybox", "ping", "-c1", "-W1", host),
        / 0% packet loss/,
      );
    }
  });

  test("the worker itself reaches services, as the gateway of its sandboxes", async () => {
    const host = await workers[0]!.enterHost("host");
    for (const name of ["11", "21", "31"]) {
      assert.equal(await host.ask({ host: instanceOf(name) }), `${name} 10.18.0.1`);
    }
    host.process.kill();
  });

  test("a host port is reached from instances of other workers", async () => {
    await workers[0]!.agent.publish("11", [{ hostPort: 6080, containerPort: 80, protocol: "tcp" }]);
    assert.equal(await client("31").ask({ host: workers[0]!.address, port: 6080 }), `11 ${workers[2]!.address}`);
    assert.equal(await client("21").ask({ host: workers[0]!.address, port: 6080 }), `11 ${workers[1]!.address}`);
    assert.equal(await client("12").ask({ host: workers[0]!.address, port: 6080 }), `11 ${instanceOf("12")}`);
    await workers[0]!.agent.publish("11", []);
  });

  test("first packets to an unknown address wait until it is known, and none is lost", async () => {
    const [{ agent, misses }] = workers as [LabWorker];
    misses.length = 0;
    const tcp = client("11").ask({ host: "10.30.5.3" });
    const burst = client("12").burst("10.30.5.3", 200);
    await eventually(() => misses.length > 0);
    await agent.setRoutes(routes(1, [service(3, ["21", "31"])]));
    assert.match(await tcp, /^(?:21|31) 10\.30\.1\.11$/);
    assert.equal(await burst, 200);
    assert.deepEqual(misses, ["10.30.5.3"]);
    assert.ok((await agent.usedAddresses()).includes("10.30.5.3"));
  });

  test("an address that nobody has is refused: at once when said so, and after two seconds without an answer", async () => {
    const [{ agent, misses }] = workers as [LabWorker];
    misses.length = 0;
    const first = client("11").ask({ host: "10.30.77.1" });
    await eventually(() => misses.length > 0);
    await agent.refuse("10.30.77.1");
    assert.equal(await first, "ECONNREFUSED");
    assert.equal(await client("12").ask({ host: "10.30.77.1" }), "ECONNREFUSED");
    assert.equal(await client("12").ask({ host: "10.30.77.1", udp: true }), "ECONNREFUSED");
    const startedAt = performance.now();
    assert.equal(await client("11").ask({ host: "10.30.77.2", timeoutMs: 4000 }), "ECONNREFUSED");
    assert.ok(performance.now() - startedAt < 3500);
  });

  test("an address that was refused leads to its service as soon as there is one", async () => {
    const { agent } = workers[0]!;
    await agent.refuse("10.30.5.9");
    assert.equal(await client("11").ask({ host: "10.30.5.9" }), "ECONNREFUSED");
    await agent.setRoutes(routes(1, [service(9, ["21"])]));
    assert.match(await client("11").ask({ host: "10.30.5.9" }), /^21 /);
    await agent.refuse("10.30.5.9");
    assert.match(await client("11").ask({ host: "10.30.5.9" }), /^21 /);
  });

  test("a service without a live instance is refused at once", async () => {
    const empty = { ...service(4, []), instances: [{ address: "10.30.104.1" }] };
    await workers[0]!.agent.setRoutes(routes(1, [empty]));
    for (const host of ["10.30.5.4", "10.30.6.4", "10.30.104.1"]) {
      assert.equal(await client("11").ask({ host }), "ECONNREFUSED");
    }
  });

  test("a flood of packets to unknown addresses costs little, and leaves others alone", async () => {
    const { agent } = workers[0]!;
    const before = await agent.cost();
    const flood = client("13").flood("10.30.80", 30_000);
    const startedAt = performance.now();
    assert.equal(await client("11").ask({ host: instanceOf("12") }), `12 ${instanceOf("11")}`);
    assert.ok(performance.now() - startedAt < 500);
    await flood;
    const after = await agent.cost();
    assert.ok(after.cpuMs - before.cpuMs < 1500, `${after.cpuMs - before.cpuMs} ms of CPU`);
    assert.ok(after.memoryMiB - before.memoryMiB < 40, `${after.memoryMiB - before.memoryMiB} MiB`);
  });

  test("a connection survives changes of its path, both ways", async () => {
    await setAll([]);
    await client("11").open(2, instanceOf("21"));
    for (const path of ["vxlan", "plain", "vxlan", "plain"] as const) {
      await workers[0]!.agent.setRoutes({ services: [own()], peers: peersOf(1, { 2: path }) });
      assert.equal(await client("11").say(2, `half ${path}`), `half ${path}`);
      await workers[1]!.agent.setRoutes({ services: [own()], peers: peersOf(2, { 1: path }) });
      assert.equal(await client("11").say(2, `all ${path}`), `all ${path}`);
    }
  });

  test("connections flow on, and new ones are made, while the agent is dead and when the next one starts", async () => {
    const worker = workers[0]!;
    await setAll([service(9, names)]);
    await client("11").open(3, instanceOf("21"));
    await client("31").open(4, instanceOf("12"));
    await client("13").startLoad("10.30.5.9");
    worker.agent.process.kill("SIGKILL");
    for (const [name, id] of [
      ["11", 3],
      ["31", 4],
    ] as const)
      assert.equal(await client(name).say(id, "dead"), "dead");
    await worker.startAgent();
    await worker.agent.configure({
      subnets: [subnetOf(1)],
      address: worker.address,
      guardedPorts: [10003],
      guardedHosts: ["192.0.2.254"],
    });
    for (const name of ["11", "12", "13"]) await worker.agent.setIdentity(name, instanceOf(name));
    await worker.agent.setRoutes(routes(1, [service(9, names)]));
    await worker.agent.start();
    for (const [name, id] of [
      ["11", 3],
      ["31", 4],
    ] as const)
      assert.equal(await client(name).say(id, "back"), "back");
    const { failures, answers } = await client("13").endLoad();
    assert.deepEqual(failures, []);
    assert.equal(Object.keys(answers).length, 9);
    assert.deepEqual(
      (await worker.agent.list()).map(({ address }) => address).sort(),
      ["11", "12", "13"].map((name) => sandboxes.get(name)).sort(),
    );
    assert.equal(await client("31").ask({ host: instanceOf("11") }), `11 ${instanceOf("31")}`);
  });

  test("members come and go under load without a failed connection", async () => {
    await client("11").startLoad("10.30.5.8");
    const { agent } = workers[0]!;
    for (let round = 0; round < 30; round++) {
      await agent.setRoutes(routes(1, [service(8, names.slice(0, [3, 6, 2, 1][round % 4]))]));
    }
    const { failures, answers } = await client("11").endLoad();
    assert.deepEqual(
      failures.filter((failure) => failure !== "none"),
      [],
    );
    assert.ok(Object.values(answers).reduce((sum, count) => sum + count) > 20);
  });

  test("clients of a sandbox that is gone are refused once its connections are forgotten, others go on", async () => {
    await setAll([service(7, ["21", "31"])]);
    const servers = [await client("11").open(5, "10.30.5.7"), await client("11").open(6, "10.30.5.7")];
    assert.deepEqual(servers.sort(), [`21 ${instanceOf("11")}`, `31 ${instanceOf("11")}`]);
    const victim = sandboxes.get("31")!;
    await workers[0]!.agent.setRoutes(routes(1, [service(7, ["21"])]));
    await workers[0]!.agent.flush(victim);
    const left = await workers[0]!.run(
      "sh",
      "-c",
      "conntrack -L 2>/dev/null | grep ESTABLISHED | grep dst=10.30.5.7 || true",
    );
    assert.ok(!left.includes(`src=${victim} `) && left.includes(`src=${sandboxes.get("21")} `), left);
    const answers = [await client("11").say(5, "on"), await client("11").say(6, "on")].sort();
    assert.deepEqual(answers, ["ECONNRESET", "on"]);
  });

  test("what another program removed or added is put right by the next check", async () => {
    const worker = workers[0]!;
    await setAll([]);
    const damages = [
      ["nft", "delete", "table", "ip", "oakestra"],
      ["nft", "flush", "ruleset"],
      ["nft", "flush", "chain", "ip", "oakestra", "arrival"],
      ["ip", "route", "delete", subnetOf(3)],
      ["ip", "link", "delete", "oakvx"],
      ["ip", "neighbour", "flush", "dev", "oakvx"],
    ];
    for (const damage of damages) {
      await worker.run(...damage);
      await worker.agent.check();
      assert.equal(await client("11").ask({ host: instanceOf("31") }), `31 ${instanceOf("11")}`, damage.join(" "));
      assert.equal(await client("31").ask({ host: instanceOf("11") }), `11 ${instanceOf("31")}`, damage.join(" "));
    }
  });

  test("a sandbox cannot claim other addresses, nor send what only workers send", async () => {
    const [worker] = workers as [LabWorker];
    const here = sandboxes.get("11")!;
    for (const claimed of [sandboxes.get("12")!, instanceOf("12"), sandboxes.get("21")!, "198.51.100.7"]) {
      await worker.inSandbox(here, "ip", "address", "add", `${claimed}/32`, "dev", "eth0");
      assert.equal(await client("11").ask({ host: instanceOf("13"), source: claimed }), "none", claimed);
      assert.equal(await client("11").ask({ host: instanceOf("31"), source: claimed, udp: true }), "none", claimed);
      await worker.inSandbox(here, "ip", "address", "delete", `${claimed}/32`, "dev", "eth0");
    }
    assert.equal(await client("11").ask({ host: instanceOf("13") }), `13 ${instanceOf("11")}`);
    const other = workers[1]!;
    await other.run(
      "nft",
      "add table ip seen; add chain ip seen c { type filter hook prerouting priority -400; }; add rule ip seen c udp dport { 50103, 50104 } counter drop",
    );
    for (const port of [50103, 50104]) await client("11").ask({ host: other.address, port, udp: true });
    assert.match(await other.run("nft", "list", "table", "ip", "seen"), /packets 0 /);
    await other.run("nft", "delete table ip seen");
  });

  test("guarded ports are closed for instances, and open for workers", async () => {
    const hosts = await Promise.all(workers.map((worker) => worker.serve(10003)));
    for (const { address } of workers) {
      assert.equal(await client("11").ask({ host: address, port: 10003 }), "ECONNREFUSED", address);
    }
    assert.equal(await client("11").ask({ host: "10.18.0.1", port: 10003 }), "ECONNREFUSED");
    assert.equal(await client("31").ask({ host: "10.18.0.1", port: 10003 }), "ECONNREFUSED");
    const host = await workers[1]!.enterHost("host");
    assert.equal(await host.ask({ host: workers[0]!.address, port: 10003 }), "open");
    for (const child of [...hosts, host.process]) child.kill();
  });

  test("tunnel packets of strangers are dropped, and so is junk", async () => {
    const stranger = await makeWorker(7, "a");
    await stranger.agent.configure({ subnets: ["10.19.0.0/26"], address: stranger.address });
    await stranger.agent.start();
    await stranger.agent.setIdentity("71", "10.30.1.71");
    const sandbox = await stranger.agent.attach("71");
    const intruder = await stranger.enter(sandbox, "71");
    for (const path of ["vxlan", "plain"] as const) {
      const peers = [{ id: "worker-1", address: workers[0]!.address, subnets: [subnetOf(1)], path }];
      await stranger.agent.setRoutes({ services: [own()], peers });
      assert.equal(await intruder.ask({ host: instanceOf("11") }), "none");
      assert.equal(await intruder.ask({ host: sandboxes.get("11")! }), "none");
    }
    await stranger
      .run("sh", "-c", `head -c 900 /dev/urandom | busybox nc -u -w1 ${workers[0]!.address} 50103`)
      .catch(() => {});
    assert.equal(await client("31").ask({ host: instanceOf("11") }), `11 ${instanceOf("31")}`);
  });

  test("large packets pass: the tunnel's smaller MTU is found by TCP, told to UDP, and bridged by fragments", async () => {
    for (const name of ["12", "21", "31"]) {
      await client("11").open(20, instanceOf(name));
      assert.equal(await client("11").echo(20, 300_000), 300_000, name);
      assert.equal(
        await client("11").ask({ host: instanceOf(name), udp: true, length: 6000 }),
        `${name} ${instanceOf("11")}`,
      );
    }
    assert.match(await workers[0]!.run("ip", "-d", "link", "show", "oakvx"), /mtu 1450 /);
  });

  test("two workers that swap subnets, and a peer that changes its address, are reached again at once", async () => {
    const [one, two] = workers as [LabWorker, LabWorker];
    const peers = peersOf(3).map((peer, index) => ({ ...peer, subnets: [subnetOf(2 - index)] }));
    await workers[2]!.agent.setRoutes({ services: [own()], peers });
    assert.match(await workers[2]!.run("ip", "neighbour", "show", "10.18.0.65"), /02:18:c0:00:02:01/);
    await workers[2]!.agent.setRoutes(routes(3));
    assert.equal(await client("31").ask({ host: instanceOf("21") }), `21 ${instanceOf("31")}`);

    await client("11").open(21, instanceOf("21"));
    await two.run("ip", "address", "delete", `${two.address}/24`, "dev", "up0");
    await two.run("ip", "address", "add", "192.0.2.22/24", "dev", "up0");
    await two.run("ip", "route", "replace", "default", "via", "192.0.2.254");
    await two.agent.configure({ subnets: [subnetOf(2)], address: "192.0.2.22" });
    const moved = (peers: readonly Peer[]) =>
      peers.map((peer) => (peer.id === "worker-2" ? { ...peer, address: "192.0.2.22" } : peer));
    await one.agent.setRoutes({ services: [own()], peers: moved(peersOf(1)) });
    await two.agent.setRoutes(routes(2));
    assert.equal(await client("11").say(21, "moved"), "moved");
    assert.equal(await client("11").ask({ host: instanceOf("21") }), `21 ${instanceOf("11")}`);
    assert.equal(await client("21").ask({ host: instanceOf("11") }), `11 ${instanceOf("21")}`);
  });

  test("more instances than one subnet has room for, with a further subnet; one that is taken away stays while it is used", async () => {
    const { agent, address, number } = workers[2]!;
    await agent.configure({ subnets: [subnetOf(number), "10.20.0.0/26"], address });
    const more = await Promise.all(Array.from({ length: 62 }, (_, index) => agent.attach(`more-${index}`)));
    assert.equal(new Set(more.map((sandbox) => sandbox.address)).size, 62);
    const beyond = more.find((sandbox) => sandbox.address.startsWith("10.20.0."))!;
    const server = await workers[2]!.enter(beyond, "beyond");
    const peers = peersOf(1).map((peer) =>
      peer.id === "worker-3" ? { ...peer, subnets: [...peer.subnets, "10.20.0.0/26"] } : peer,
    );
    const far = {
      id: "far",
      roundRobin: "10.30.3.1",
      closest: "10.30.3.2",
      instances: [{ address: "10.30.3.3", sandbox: beyond.address }],
    };
    await workers[0]!.agent.setRoutes({ services: [own(), far], peers });
    assert.equal(await client("11").ask({ host: "10.30.3.1" }), `beyond ${instanceOf("11")}`);
    await agent.configure({ subnets: [subnetOf(number)], address });
    assert.equal(await client("11").ask({ host: "10.30.3.1" }), `beyond ${instanceOf("11")}`);
    server.process.kill();
    for (const { instanceId } of await agent.list()) if (instanceId.startsWith("more-")) await agent.detach(instanceId);
    await agent.check();
    assert.equal(await workers[2]!.run("ip", "route", "show", "10.20.0.0/26"), "");
  });

  test("the agent costs nothing while nothing happens, and leaves nothing when it is purged", async () => {
    const { agent } = workers[1]!;
    const before = await agent.cost();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const spent = (await agent.cost()).cpuMs - before.cpuMs;
    assert.ok(spent < 60, `${spent} ms of CPU in 3 s`);
    await agent.stop(true);
    const ruleset = await workers[1]!.run("nft", "list", "ruleset");
    assert.ok(!ruleset.includes("oakestra"));
    for (const args of [["link"], ["route", "show", "table", "all"], ["rule"]]) {
      assert.doesNotMatch(await workers[1]!.run("ip", ...args), /oak|10\.18\.|10\.30\.|0xa1e/);
    }
  });
}
