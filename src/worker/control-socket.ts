/** A socket of the worker for commands on the same machine (`oak net`): HTTP with JSON, for root only. Without it the worker works on. */
import { chmod, mkdir, mkdtemp, rename, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { type Clock, pause } from "../base/clock.ts";
import { describeError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

const RETRY_MS = 30_000;

export interface ControlSocketOptions {
  readonly path: string;
  /** By method and path, as `GET /net`. */
  readonly routes: Readonly<Record<string, (signal: AbortSignal) => Promise<object>>>;
  readonly clock: Clock;
  readonly log: Logger;
}

export class ControlSocket {
  readonly #options: ControlSocketOptions;

  constructor(options: ControlSocketOptions) {
    this.#options = options;
  }

  async run(signal: AbortSignal): Promise<void> {
    const { path, log, clock } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#serve(signal);
      } catch (error) {
        log.warn({ path, error }, "no commands on this machine are answered");
        await pause(clock, RETRY_MS, signal);
      }
    }
  }

  async #serve(signal: AbortSignal): Promise<void> {
    const { path } = this.#options;
    const server = createServer((request, response) => void this.#answer(request, response, signal));
    try {
      await listenForRoot(server, path);
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      await rm(path, { force: true });
    } finally {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    }
  }

  async #answer(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const route = this.#options.routes[`${request.method} ${request.url}`];
    const send = (status: number, body: object) => {
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    };
    try {
      if (route) send(200, await route(signal));
      else send(404, { error: "NOT_FOUND", message: "There is no such thing" });
    } catch (error) {
      send(500, { error: "INTERNAL", message: describeError(error) });
    }
  }
}

/** Nobody else can connect at any moment: it is made in a folder for root only. One left behind by an agent that was killed is replaced. */
async function listenForRoot(server: Server, path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  if (await isAnswered(path)) throw new Error("another worker of this machine answers there");
  const folder = await mkdtemp(`${path}-`);
  try {
    const made = join(folder, "s");
    await listen(server, made);
    await chmod(made, 0o600);
    await rename(made, path);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    // Nothing there, or left behind by an agent that was killed.
    socket.once("error", () => resolve(false));
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
