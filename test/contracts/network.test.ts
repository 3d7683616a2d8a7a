/** What every `Network` promises, on the fake and on the kernel. Packets are in network-packets.test.ts. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { LinuxNetwork } from "../../src/net/linux-network.ts";
import { FakeNetwork } from "../../src/net/network.fake.ts";
import type { Network, PortMapping } from "../../src/net/network.ts";
import type { Overlay } from "../../src/net/overlay.ts";
import { isInside, listen } from "./network-namespaces.ts";

interface Subject {
  readonly network: Network & Overlay;
  /** Makes a process of the host listen; resolves with what ends it. */
  listenOnHost(port: number): Promise<() => void>;
  remove(): void;
}

const SUBNET = "10.18.0.0/29";
const ROOM = 5;
const A = "65f0c0ffee65f0c0ffee0001-0";
const B = "65f0c0ffee65f0c0ffee0001-1";
const signal = new AbortController().signal;
const tcp = (hostPort: number, containerPort = 80): PortMapping => ({ hostPort, containerPort, protocol: "tcp" });

function fake(): Subject {
  const network = new FakeNetwork({ subnet: SUBNET });
  return {
    network,
    listenOnHost: async (port) => {
      network.hostListeners.set(`${port}/tcp`, { pid: process.pid, name: "node" });
      return () => network.hostListeners.delete(`${port}/tcp`);
    },
    remove: () => {},
  };
}

function kernel(): Subject {
  const stateDir = mkdtempSync(join(tmpdir(), "oak-net-"));
  return {
    network: new LinuxNetwork({ stateDir, subnet: SUBNET, log: silentLogger, clock: systemClock }),
    listenOnHost: async (port) => {
      const server = await listen(port);
      return () => server.close();
    },
    remove: () => rmSync(stateDir, { recursive: true }),
  };
}

if (isInside(import.meta.filename)) {
  for (const make of [fake, kernel]) describe(`Network: ${make.name}`, () => suite(make));
}

function suite(make: () => Subject): void {
  let subject: Subject;
  let network: Network & Overlay;
  beforeEach(async () => {
    subject = make();
    network = subject.network;
    await network.start(signal);
  });
  afterEach(async () => {
    await network.stop({ purge: true });
    subject.remove();
  });

  test("attach() gives the same sandbox on each call, and different ones to different instances", async () => {
    const first = await network.attach(A, signal);
    assert.deepEqual(await network.attach(A, signal), first);
    const second = await network.attach(B, signal);
    assert.notEqual(second.address, first.address);
    assert.notEqual(second.namespacePath, first.namespacePath);
    assert.deepEqual(network.list(), [first, second]);
  });

  test("attach() called twice at once makes one sandbox", async () => {
    const [left, right] = await Promise.all([network.attach(A, signal), network.attach(A, signal)]);
    assert.deepEqual(left, right);
    assert.equal(network.list().length, 1);
  });

  test("attach() is refused with NET_EXHAUSTED when every address has an owner, and works again after a detach", async () => {
    const all = Array.from({ length: ROOM }, (_, number) => `${A}${number}`);
    const sandboxes = await Promise.all(all.map((instanceId) => network.attach(instanceId, signal)));
    assert.equal(new Set(sandboxes.map(({ address }) => address)).size, ROOM);
    await assert.rejects(network.attach(B, signal), { code: "NET_EXHAUSTED", message: /10\.18\.0\.0\/29/ });
    await network.detach(all[2]!, signal);
    assert.equal((await network.attach(B, signal)).address, sandboxes[2]!.address);
  });

  test("configure() with a further subnet makes room, and without one gives none of its addresses any more", async () => {
    const all = Array.from({ length: ROOM }, (_, number) => `${A}${number}`);
    await Promise.all(all.map((instanceId) => network.attach(instanceId, signal)));
    assert.equal(network.freeAddresses(), 0);
    await network.configure({ subnets: [SUBNET, "10.20.0.0/29"] });
    const beyond = await network.attach(B, signal);
    assert.match(beyond.address, /^10\.20\.0\./);
    await network.configure({ subnets: [SUBNET] });
    assert.equal(network.freeAddresses(), 0);
    await assert.rejects(network.attach(`${B}1`, signal), { code: "NET_EXHAUSTED" });
    assert.deepEqual(await network.attach(B, signal), beyond);
    await network.detach(B, signal);
    assert.equal(network.freeAddresses(), 0);
  });

  test("configure() refuses what is no subnet, or too narrow a one, and changes nothing", async () => {
    await assert.rejects(network.configure({ subnets: ["10.20.0.1/26"] }), { code: "SUBNET_INVALID" });
    await assert.rejects(network.configure({ subnets: ["10.20.0.0/30"] }), {
      code: "NET_CLASH",
      message: /10\.20\.0\.0\/30/,
    });
    assert.equal((await network.attach(A, signal)).address, "10.18.0.2");
  });

  test("detach() of an unknown instance resolves, and so does a second one", async () => {
    await network.detach(A, signal);
    await network.attach(A, signal);
    await network.detach(A, signal);
    await network.detach(A, signal);
    assert.deepEqual(network.list(), []);
  });

  test("a freed address is the last to be given out again", async () => {
    const { address } = await network.attach(A, signal);
    await network.detach(A, signal);
    for (let number = 0; number < ROOM - 1; number++) {
      assert.notEqual((await network.attach(`${B}${number}`, signal)).address, address);
    }
    assert.equal((await network.attach(A, signal)).address, address);
  });

  test("publish() refuses a port that another instance has, by its name, and changes nothing", async () => {
    await network.attach(A, signal);
    await network.attach(B, signal);
    await network.publish(A, [tcp(8080)], signal);
    const refusal = { code: "PORT_BUSY", message: new RegExp(`8080/tcp .*"${A}"`) };
    await assert.rejects(network.publish(B, [tcp(8081), tcp(8080)], signal), refusal);
    await network.publish(A, [tcp(8080), tcp(8081)], signal);
    await network.publish(B, [{ ...tcp(8080), protocol: "udp" }], signal);
  });

  test("publish() refuses a port on which a process of the host listens, by its name", async () => {
    await network.attach(A, signal);
    const end = await subject.listenOnHost(8082);
    const refusal = { code: "PORT_BUSY", message: new RegExp(`8082/tcp .*process ${process.pid} `) };
    await assert.rejects(network.publish(A, [tcp(8082)], signal), refusal);
    end();
    await network.publish(A, [tcp(8082)], signal);
  });

  test("publish() refuses the ports that workers use among themselves", async () => {
    await network.attach(A, signal);
    for (const port of [tcp(50104), { ...tcp(50105), protocol: "udp" as const }]) {
      await assert.rejects(network.publish(A, [port], signal), { code: "PORT_BUSY", message: /the workers among/ });
    }
    await network.publish(A, [tcp(50106), tcp(8080, 50105)], signal);
  });

  test("publish() leaves exactly the ports that it was given", async () => {
    await network.attach(A, signal);
    await network.attach(B, signal);
    await network.publish(A, [tcp(8080), tcp(8081)], signal);
    await network.publish(A, [tcp(8081, 81)], signal);
    await network.publish(B, [tcp(8080)], signal);
    await assert.rejects(network.publish(B, [tcp(8081)], signal), { code: "PORT_BUSY" });
  });

  test("publish() for an instance without sandbox is refused", async () => {
    await assert.rejects(network.publish(A, [tcp(8080)], signal), { code: "NOT_ATTACHED" });
  });

  test("unpublish() and detach() free ports, and may be repeated", async () => {
    await network.attach(A, signal);
    await network.attach(B, signal);
    await network.publish(A, [tcp(8080)], signal);
    await network.unpublish(A, signal);
    await network.unpublish(A, signal);
    await network.unpublish("unknown-0", signal);
    await network.publish(B, [tcp(8080)], signal);
    await network.detach(B, signal);
    await network.publish(A, [tcp(8080)], signal);
  });

  test("an aborted signal ends a call with its reason", async () => {
    const reason = new Error("enough");
    await assert.rejects(network.attach(A, AbortSignal.abort(reason)), reason);
    assert.deepEqual(network.list(), []);
  });
}
