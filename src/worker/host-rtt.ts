/** The round-trip time to any host: by the echo of `ping`, or where that is missing or not answered, by a TCP handshake. */
import { connect } from "node:net";
import type { Clock } from "../base/clock.ts";
import { startTimer } from "../base/clock.ts";
import { hasCode } from "../base/errors.ts";
import { exec } from "../base/exec.ts";

const PING_MS = 4_000;
const CONNECT_MS = 2_000;
/** Open on most hosts; a closed one answers as quickly. */
const PORTS = [443, 80, 22] as const;

/** @param host of a checked descriptor: it never begins with a dash. Undefined: no answer. */
export async function hostRtt(host: string, clock: Clock, signal: AbortSignal): Promise<number | undefined> {
  return (await ping(host, signal)) ?? (await handshake(host, clock));
}

async function ping(host: string, signal: AbortSignal): Promise<number | undefined> {
  try {
    return parsePing(
      await exec("ping", ["-n", "-c", "3", "-i", "0.2", "-W", "1", host], { timeoutMs: PING_MS, signal }),
    );
  } catch (error) {
    signal.throwIfAborted();
    if (["EXEC_FAILED", "EXEC_MISSING", "EXEC_TIMEOUT"].some((code) => hasCode(error, code))) return undefined;
    throw error;
  }
}

/** The quickest echo: the others waited somewhere. Pure. */
export function parsePing(output: string): number | undefined {
  const times = [...output.matchAll(/time[=<]([\d.]+) ?ms/g)].map(([, time]) => Number(time));
  return times.length > 0 ? Math.min(...times) : undefined;
}

async function handshake(host: string, clock: Clock): Promise<number | undefined> {
  const times = await Promise.all(PORTS.map((port) => handshakeAt(host, port, clock)));
  const answered = times.filter((time) => time !== undefined);
  return answered.length > 0 ? Math.min(...answered) : undefined;
}

function handshakeAt(host: string, port: number, clock: Clock): Promise<number | undefined> {
  return new Promise((resolve) => {
    let startedAt = clock.monotonic();
    const socket = connect({ host, port });
    const finish = (rttMs: number | undefined) => {
      stopTimer();
      socket.destroy();
      resolve(rttMs);
    };
    const stopTimer = startTimer(CONNECT_MS, () => finish(undefined));
    // The name's own look-up is no part of the way.
    socket.on("lookup", () => (startedAt = clock.monotonic()));
    socket.on("connect", () => finish(clock.monotonic() - startedAt));
    socket.on("error", (error) => finish(hasCode(error, "ECONNREFUSED") ? clock.monotonic() - startedAt : undefined));
  });
}
