/** The two tools that reach the kernel: nft, in both of its forms, and the long-lived ip. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { exec } from "../../src/base/exec.ts";
import { deleteConnections } from "../../src/net/conntrack-netlink.ts";
import { IpBatch } from "../../src/net/ip-batch.ts";
import { openLibnftables } from "../../src/net/libnftables.ts";
import { type Nft, spawnNft } from "../../src/net/nft.ts";
import { openTun } from "../../src/net/tun.ts";
import { eventually } from "../support/eventually.ts";
import { isInside } from "./network-namespaces.ts";

if (isInside(import.meta.filename)) {
  const folder = mkdtempSync(join(tmpdir(), "oak-nft-"));
  process.on("exit", () => rmSync(folder, { recursive: true }));
  describe("nft: libnftables in process", () => nftSuite(openLibnftables));
  describe("nft: spawned", () => nftSuite(async () => spawnNft(folder)));
  describe("ip -batch", ipSuite);
  test("a TUN device gives packets, can be opened again as soon as it is closed, and tells when it is gone", tunSuite);
  test("connections of an address are deleted by one message, in both directions, and others stay", connectionSuite);
}

function nftSuite(open: () => Promise<Nft>): void {
  const table = "table ip t\ndelete table ip t\ntable ip t {\nset s { type inet_service; }\n}\n";

  test("run() applies all of a text, or nothing, and tells why in nft's words", async () => {
    const nft = await open();
    await nft.run(table);
    await nft.run("add element ip t s { 80, 443 }\n");
    const half = nft.run("add element ip t s { 8080 }\nadd element ip t nosuch { 1 }\n");
    await assert.rejects(half, { code: "NFT_FAILED", message: /No such file or directory/ });
    assert.deepEqual(elements(await nft.list("list set ip t s")), [80, 443]);
    nft.close();
  });

  test("many runs at once all take effect", async () => {
    const nft = await open();
    await nft.run(table);
    const ports = Array.from({ length: 10 }, (_, index) => index + 1);
    await Promise.all(ports.map((port) => nft.run(`add element ip t s { ${port} }\n`)));
    assert.deepEqual(elements(await nft.list("list set ip t s")), ports);
    nft.close();
  });
}

function elements(listing: unknown): unknown {
  const { nftables } = listing as { nftables: { set?: { elem: number[] } }[] };
  return nftables.find(({ set }) => set)?.set?.elem;
}

function ipSuite(): void {
  test("a failure names its command, also when several are under way, and the others take effect", async () => {
    const ip = new IpBatch();
    const results = await Promise.allSettled([
      ip.run(["link add b1 type bridge", "link show missing1", "link set b1 up"]),
      ip.run(["link add b2 type bridge"]),
      ip.run(["link delete missing2"], { tolerate: /Cannot find device/ }),
      ip.run(["link delete missing3"]),
    ]);
    assert.deepEqual(
      results.map(({ status }) => status),
      ["rejected", "fulfilled", "fulfilled", "rejected"],
    );
    const reasons = results.map((result) => (result.status === "rejected" ? String(result.reason) : ""));
    assert.match(reasons[0]!, /"ip link show missing1" failed: .*does not exist/);
    assert.match(reasons[3]!, /"ip link delete missing3" failed: Cannot find device/);
    assert.match(await exec("ip", ["link", "show", "b1"]), /[<,]UP[,>]/);
    ip.close();
  });

  test("what waits is rejected when ip dies, and the next call starts another", async () => {
    const ip = new IpBatch();
    await ip.run(["link set lo up"]);
    const pid = readFileSync(`/proc/self/task/${process.pid}/children`, "utf8").trim().split(" ").at(-1);
    process.kill(Number(pid), "SIGSTOP");
    const waiting = ip.run(["link set lo up"]);
    process.kill(Number(pid), "SIGKILL");
    await assert.rejects(waiting, { code: "IP_DIED", message: /SIGKILL/ });
    await ip.run(["link set lo up"]);
    ip.close();
  });

  test("text that is no plain command never gets to ip", async () => {
    const ip = new IpBatch();
    for (const command of ["link set lo up\nlink delete oak0", "link set $(id) up", "link set 'a b' up"]) {
      await assert.rejects(ip.run([command]), { code: "IP_FAILED" });
    }
    ip.close();
  });
}

async function tunSuite(): Promise<void> {
  await exec("ip", ["tuntap", "add", "tun7", "mode", "tun"]);
  await exec("ip", ["address", "add", "10.77.0.1/24", "dev", "tun7"]);
  await exec("ip", ["link", "set", "tun7", "up"]);
  const socket = createSocket("udp4");
  for (let round = 0; round < 3; round++) {
    const received: Buffer[] = [];
    const tun = await openTun("tun7", { onPacket: (packet) => received.push(packet), onLost: () => {} });
    for (const text of ["one", "two"]) socket.send(text, 9, "10.77.0.2");
    await eventually(() => ["one", "two"].every((text) => received.some((packet) => packet.includes(text))));
    await assert.rejects(openTun("tun7", { onPacket: () => {}, onLost: () => {} }), /another process has it/);
    tun.close();
  }
  socket.close();
  let isLost = false;
  const tun = await openTun("tun7", { onPacket: () => {}, onLost: () => (isLost = true) });
  await exec("ip", ["link", "delete", "tun7"]);
  await eventually(() => isLost);
  tun.close();
}

async function connectionSuite(): Promise<void> {
  const add = (source: string, target: string, replySource: string) =>
    exec("conntrack", [
      ..."-I -p udp -t 60 --sport 7 --dport 8 --reply-port-src 8 --reply-port-dst 7 -u SEEN_REPLY".split(" "),
      ...["-s", source, "-d", target, "--reply-src", replySource, "--reply-dst", source],
    ]);
  await add("10.9.0.1", "10.9.9.9", "10.18.0.7");
  await add("10.9.0.2", "10.9.9.9", "10.18.0.8");
  await add("10.18.0.7", "10.9.0.3", "10.9.0.3");
  const startedAt = performance.now();
  assert.equal(await deleteConnections(0x0a120007), true);
  assert.ok(performance.now() - startedAt < 100);
  const left = await exec("conntrack", ["-L"]);
  assert.ok(!left.includes("10.18.0.7") && left.includes("10.18.0.8"), left);
  assert.equal(await deleteConnections(0x0a120007), true);
}
