/** A socket of the worker for commands on the same machine (`oak net`): HTTP with JSON, for root only. Without it the worker works on. */
import { chmod, mkdir, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { dirname } from "node:path";
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
    await mkdir(dirname(path), { recursive: true });
    // Left behind by an agent that was killed.
    await rm(path, { force: true });
    const server = createServer((request, response) => void this.#answer(request, response, signal));
    await listen(server, path);
    await chmod(path, 0o600);
    if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
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

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
