/**
 * Round-trip times to other workers, over the network between them (underlay) and through the tunnel (overlay): what `closest` and the
 * choice of a path go by. One UDP socket asks and answers; only workers that we know get an answer. A request and its answer are
 * equally long, and the nonce makes answers impossible to guess: `OAKP`, version, 1 request or 2 answer, two zeros, 8 bytes of nonce,
 * and of an answer the network coordinate of who gives it (x, y, z, height, error; all zero: none).
 */
import { randomBytes } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { type Clock, pause } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { jitter } from "../base/random.ts";
import { NetworkCoordinate } from "../protocol/placement-request.ts";

export const PROBE_PORT = 50_104;

export type ProbePath = "underlay" | "overlay";

export interface ProbePeer {
  /** Worker id. */
  readonly id: string;
  /** Where to ask, by path; a path without an address is not probed. */
  readonly addresses: Readonly<Partial<Record<ProbePath, string>>>;
}

export interface PathQuality {
  /** Of quick answers; slower ones raise it bit by bit. Undefined: never answered. */
  readonly rttMs: number | undefined;
  /** Share of probes that got no answer, smoothed, 0 to 1. */
  readonly loss: number;
  /** Answers missing in a row. */
  readonly missed: number;
}

/** One that came, as it was. */
export interface ProbeAnswer {
  readonly rttMs: number;
  readonly coordinate: NetworkCoordinate | undefined;
}

export interface RttProberOptions {
  /** Who gets an answer. */
  readonly isPeer: (address: string) => boolean;
  /** The quality of a path has been measured again. */
  readonly onMeasured: (peerId: string, path: ProbePath, answer: ProbeAnswer | undefined) => void;
  /** Told with each answer. */
  readonly coordinate?: () => NetworkCoordinate | undefined;
  /** Something that is no probe has come to the port. */
  readonly onOther?: (bytes: Buffer, source: string) => void;
  readonly clock: Clock;
  readonly log: Logger;
  readonly address?: string;
  /** Between two probes of a peer, after the first few; by how many there have been, and whether they agree. */
  readonly steadyMs?: (rounds: number, isCalm: boolean) => number;
  /** The same on every worker. 0: any that is free. */
  readonly port?: number;
}

interface Peer {
  readonly peer: ProbePeer;
  rounds: number;
  /** Monotonic ms. */
  nextAt: number;
  readonly qualities: Map<ProbePath, PathQuality>;
  /** Grows with every answer that took about as long as the ones before; an odd one halves it, a missing one ends it. */
  calm: number;
}

interface Probe {
  readonly peerId: string;
  readonly path: ProbePath;
  readonly sentAt: number;
}

const MAGIC = Buffer.from("OAKP");
const VERSION = 1;
const REQUEST = 1;
const ANSWER = 2;
const NONCE_AT = 8;
const COORDINATE_AT = 16;
const COORDINATE_FLOATS = 5;
const LENGTH = COORDINATE_AT + 4 * COORDINATE_FLOATS;
const ANSWER_MS = 3000;
const REOPEN_MS = 30_000;
const IDLE_MS = 3_600_000;
/**
 * At first a few quick ones on every path, then one in ten seconds, path by path, and less often while they all take as long as ever;
 * an answer that is missing is looked into.
 */
const FIRST_ROUNDS = 4;
const FIRST_MS = 250;
const DOUBT_MS = 1000;
const MAX_DOUBTS = 5;
const STEADY_MS = 11_000;
const CALM_MS = 44_000;
const CALM_ENOUGH = 4;
const CALM_MOST = 6;
const CALM_SHARE = 0.25;
const CALM_SPAN_MS = 2;
const RTT_GAIN = 0.25;
const LOSS_GAIN = 0.25;

export class RttProber {
  readonly #options: RttProberOptions;
  readonly #peers = new Map<string, Peer>();
  /** By nonce; oldest first. */
  readonly #pending = new Map<string, Probe>();
  #socket: Socket | undefined;
  #wake: (() => void) | undefined;

  constructor(options: RttProberOptions) {
    this.#options = options;
  }

  /** The workers that are in use. One whose addresses changed is measured anew. */
  setPeers(peers: readonly ProbePeer[]): void {
    const wanted = new Map(peers.map((peer) => [peer.id, peer]));
    for (const id of this.#peers.keys()) if (!wanted.has(id)) this.#peers.delete(id);
    for (const peer of peers) {
      const known = this.#peers.get(peer.id)?.peer.addresses;
      if (known && known.underlay === peer.addresses.underlay && known.overlay === peer.addresses.overlay) continue;
      this.#peers.set(peer.id, { peer, rounds: 0, nextAt: 0, qualities: new Map(), calm: 0 });
    }
    this.#wake?.();
  }

  quality(peerId: string, path: ProbePath): PathQuality | undefined {
    return this.#peers.get(peerId)?.qualities.get(path);
  }

  /** Sends something else from the port to the same port of another worker; lost when it cannot be. */
  send(bytes: Buffer, address: string): void {
    this.#socket?.send(bytes, this.#socket.address().port, address, ignore);
  }

  /** Asks and answers until `signal` aborts. Without the port, which somebody may have taken, it says so and tries again. */
  async run(signal: AbortSignal): Promise<void> {
    const { log, clock, address = "0.0.0.0", port = PROBE_PORT } = this.#options;
    while (!signal.aborted) {
      const broken = new AbortController();
      const socket = createSocket("udp4");
      try {
        await bind(socket, address, port);
        socket.on("error", (error) => broken.abort(error));
        socket.on("message", (message, { address: source, port: sourcePort }) => {
          // A raw packet may come from port 0, to which nothing can be sent.
          if (sourcePort > 0) this.#receive(message, source, (reply) => socket.send(reply, sourcePort, source, ignore));
        });
        this.#socket = socket;
        await this.#probe(AbortSignal.any([signal, broken.signal]));
        if (broken.signal.aborted) throw broken.signal.reason;
      } catch (error) {
        log.warn({ address, port, error }, "round-trip times cannot be measured");
        await pause(clock, REOPEN_MS, signal);
      } finally {
        this.#socket = undefined;
        this.#pending.clear();
        socket.close();
      }
    }
  }

  async #probe(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    while (!signal.aborted) {
      const now = clock.monotonic();
      this.#giveUp(now);
      for (const peer of this.#peers.values()) if (peer.nextAt <= now) this.#ask(peer, now);
      const woken = new AbortController();
      this.#wake = () => woken.abort();
      await pause(clock, this.#nextDue(now) - now, AbortSignal.any([signal, woken.signal]));
    }
  }

  #nextDue(now: number): number {
    let due = now + IDLE_MS;
    for (const { nextAt } of this.#peers.values()) due = Math.min(due, nextAt);
    const [oldest] = this.#pending.values();
    return oldest ? Math.min(due, oldest.sentAt + ANSWER_MS) : due;
  }

  #ask(state: Peer, now: number): void {
    const { peer, rounds, qualities } = state;
    const paths = (["underlay", "overlay"] as const).filter((path) => peer.addresses[path] !== undefined);
    const isFirst = rounds < FIRST_ROUNDS;
    for (const [index, path] of paths.entries()) {
      const missed = qualities.get(path)?.missed ?? 0;
      const isInDoubt = missed > 0 && missed <= MAX_DOUBTS;
      if (!isFirst && !isInDoubt && rounds % paths.length !== index) continue;
      const nonce = randomBytes(8);
      this.#pending.set(nonce.toString("hex"), { peerId: peer.id, path, sentAt: now });
      this.send(message(REQUEST, nonce), peer.addresses[path]!);
    }
    state.rounds += 1;
    state.nextAt = now + (isFirst ? FIRST_MS : isDoubtful(state) ? DOUBT_MS : jitter(this.#steadyMs(state), 0.09));
  }

  #steadyMs({ rounds, calm }: Peer): number {
    const isCalm = calm >= CALM_ENOUGH;
    return this.#options.steadyMs?.(rounds, isCalm) ?? (isCalm ? CALM_MS : STEADY_MS);
  }

  /** Answers that are missing count as lost. */
  #giveUp(now: number): void {
    for (const [nonce, { peerId, path, sentAt }] of this.#pending) {
      if (sentAt + ANSWER_MS > now) return;
      this.#pending.delete(nonce);
      const state = this.#peers.get(peerId);
      if (!state) continue;
      this.#note(state, path, undefined);
      if (isDoubtful(state)) state.nextAt = Math.min(state.nextAt, now + DOUBT_MS);
    }
  }

  #receive(bytes: Buffer, source: string, reply: (bytes: Buffer) => void): void {
    if (bytes.length !== LENGTH) {
      this.#options.onOther?.(bytes, source);
      return;
    }
    if (!bytes.subarray(0, 4).equals(MAGIC) || bytes[4] !== VERSION) return;
    const nonce = bytes.subarray(NONCE_AT, COORDINATE_AT);
    const { isPeer, coordinate } = this.#options;
    if (bytes[5] === REQUEST && isPeer(source)) reply(message(ANSWER, nonce, coordinate?.()));
    if (bytes[5] !== ANSWER) return;
    const key = nonce.toString("hex");
    const probe = this.#pending.get(key);
    this.#pending.delete(key);
    const state = probe && this.#peers.get(probe.peerId);
    if (!state) return;
    const rttMs = this.#options.clock.monotonic() - probe.sentAt;
    this.#note(state, probe.path, { rttMs, coordinate: readCoordinate(bytes) });
  }

  #noteCalm(state: Peer, calm: number): void {
    const isOver = state.calm >= CALM_ENOUGH && calm < CALM_ENOUGH;
    state.calm = calm;
    if (!isOver) return;
    state.nextAt = Math.min(state.nextAt, this.#options.clock.monotonic() + this.#steadyMs(state));
    this.#wake?.();
  }

  #note(state: Peer, path: ProbePath, answer: ProbeAnswer | undefined): void {
    const { peer, qualities } = state;
    const before = qualities.get(path);
    if (state.rounds > FIRST_ROUNDS) this.#noteCalm(state, calmAfter(state.calm, before, answer?.rttMs));
    qualities.set(path, measured(before, answer?.rttMs));
    this.#options.onMeasured(peer.id, path, answer);
  }
}

/** @param sampleMs undefined: no answer */
export function measured(before: PathQuality | undefined, sampleMs: number | undefined): PathQuality {
  const lost = sampleMs === undefined ? 1 : 0;
  const loss = before ? before.loss + LOSS_GAIN * (lost - before.loss) : lost;
  if (sampleMs === undefined) return { rttMs: before?.rttMs, loss, missed: (before?.missed ?? 0) + 1 };
  // Less is true at once, since nothing arrives before its time; more may be a machine that was busy.
  const known = before?.rttMs ?? sampleMs;
  const rttMs = Math.min(sampleMs, known + RTT_GAIN * (sampleMs - known));
  return { rttMs, loss, missed: 0 };
}

/** A difference that nobody would notice does not count. */
function calmAfter(calm: number, before: PathQuality | undefined, sampleMs: number | undefined): number {
  if (before?.rttMs === undefined || sampleMs === undefined) return 0;
  const isAsBefore = Math.abs(sampleMs - before.rttMs) <= Math.max(CALM_SPAN_MS, CALM_SHARE * before.rttMs);
  return isAsBefore ? Math.min(calm + 1, CALM_MOST) : Math.floor(calm / 2);
}

function isDoubtful({ qualities }: Peer): boolean {
  return [...qualities.values()].some(({ missed }) => missed > 0 && missed <= MAX_DOUBTS);
}

function message(kind: number, nonce: Buffer, coordinate?: NetworkCoordinate): Buffer {
  const bytes = Buffer.alloc(LENGTH);
  MAGIC.copy(bytes);
  bytes[4] = VERSION;
  bytes[5] = kind;
  nonce.copy(bytes, NONCE_AT);
  if (!coordinate) return bytes;
  const { position, heightMs, error } = coordinate;
  for (const [index, value] of [...position, heightMs, error].entries()) {
    bytes.writeFloatBE(value, COORDINATE_AT + 4 * index);
  }
  return bytes;
}

/** Undefined: it has none, or nonsense. */
function readCoordinate(bytes: Buffer): NetworkCoordinate | undefined {
  const [x, y, z, heightMs, error] = Array.from({ length: COORDINATE_FLOATS }, (_, index) =>
    bytes.readFloatBE(COORDINATE_AT + 4 * index),
  );
  const checked = NetworkCoordinate.safeParse({ position: [x, y, z], heightMs, error });
  return checked.success && error! > 0 ? checked.data : undefined;
}

/** A packet that cannot be sent is a packet lost. */
function ignore(): void {}

function bind(socket: Socket, address: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off("error", reject);
      resolve();
    });
  });
}
