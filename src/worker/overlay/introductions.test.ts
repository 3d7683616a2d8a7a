import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ManualClock } from "../../base/clock.fake.ts";
import { silentLogger } from "../../base/log.ts";
import type { WorkerEndpoint } from "../../protocol/route.ts";
import { Introductions } from "./introductions.ts";

interface Datagram {
  readonly bytes: Buffer;
  readonly from: string;
  readonly to: string;
}

/** Workers on one network, where everything that is sent can be recorded. */
class World {
  readonly clock = new ManualClock();
  readonly recorded: Datagram[] = [];
  readonly #stopping = new AbortController();
  readonly #at = new Map<string, Introductions>();
  /** Lost instead of delivered. */
  isLost: (datagram: Datagram) => boolean = () => false;

  constructor(t: TestContext) {
    t.after(() => this.#stopping.abort());
  }

  add(endpoint: WorkerEndpoint) {
    const worker = { endpoint, introduced: [] as string[], reachable: [] as string[] };
    const introductions: Introductions = new Introductions({
      key: () => "key",
      self: () => worker.endpoint,
      send: (bytes, to) => this.deliver({ bytes, from: worker.endpoint.address, to }),
      onIntroduced: async ({ id, address }) => void worker.introduced.push(`${id} ${address}`),
      onReachable: (id) => worker.reachable.push(id),
      ...{ clock: this.clock, log: silentLogger },
    });
    this.#at.set(endpoint.address, introductions);
    void introductions.run(this.#stopping.signal);
    return { worker, introductions };
  }

  move(from: string, to: string): void {
    this.#at.set(to, this.#at.get(from)!);
    this.#at.delete(from);
  }

  deliver(datagram: Datagram): void {
    this.recorded.push(datagram);
    if (!this.isLost(datagram)) this.#at.get(datagram.to)?.receive(datagram.bytes, datagram.from);
  }
}

const CLIENT = { id: "client", address: "192.0.2.1", subnets: ["10.18.0.0/26"] };
const SERVER = { id: "server", address: "192.0.2.2", subnets: ["10.18.0.64/26"] };

test("a worker is known where it says that it is, as soon as it has said so twice, and is welcome", async (t) => {
  const world = new World(t);
  const [client, server] = [world.add(CLIENT), world.add(SERVER)];
  client.introductions.setPeers([SERVER]);
  await world.clock.advance(1);
  assert.deepEqual(server.worker.introduced, ["client 192.0.2.1"]);
  assert.deepEqual(client.worker.reachable, ["server"]);
  await world.clock.advance(700_000);
  assert.ok(server.worker.introduced.length >= 2, "it is repeated now and then");
});

test("whatever is lost, a worker is known in the end", async (t) => {
  for (const lost of [0, 1, 2, 3]) {
    const world = new World(t);
    const [client, server] = [world.add(CLIENT), world.add(SERVER)];
    world.isLost = () => world.recorded.length === lost + 1;
    client.introductions.setPeers([SERVER]);
    await world.clock.advance(400);
    assert.deepEqual([server.worker.introduced[0], client.worker.reachable], ["client 192.0.2.1", ["server"]]);
  }
});

test("what was recorded brings nobody back to where a worker was before, neither at once nor later", async (t) => {
  const world = new World(t);
  const [client, server] = [world.add(CLIENT), world.add(SERVER)];
  client.introductions.setPeers([SERVER]);
  await world.clock.advance(10);
  const before = world.recorded.filter(({ to }) => to === SERVER.address);
  assert.equal(before.length, 2);
  client.worker.endpoint = { ...CLIENT, address: "192.0.2.9" };
  world.move(CLIENT.address, "192.0.2.9");
  client.introductions.repeat();
  await world.clock.advance(10);
  const known = ["client 192.0.2.1", "client 192.0.2.9"];
  assert.deepEqual(server.worker.introduced, known);
  for (const waitMs of [0, 5000, 60_000]) {
    await world.clock.advance(waitMs);
    for (const datagram of before) world.deliver(datagram);
    assert.deepEqual(server.worker.introduced, known, `${waitMs} ms later`);
  }
});

test("nobody is known who does not get the answers to what was sent in its name", async (t) => {
  const world = new World(t);
  const [client, server] = [world.add(CLIENT), world.add(SERVER)];
  world.isLost = ({ to }) => to === CLIENT.address;
  client.introductions.setPeers([SERVER]);
  await world.clock.advance(60_000);
  assert.deepEqual(server.worker.introduced, []);
  assert.deepEqual(client.worker.reachable, ["server"], "it is tried all the same: maybe it has known us for long");
});
