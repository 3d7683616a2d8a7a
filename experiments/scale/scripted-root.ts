/** The root's end of one uplink, which notes when something arrives: what the cluster under measurement tells, and how soon. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type WebSocket, WebSocketServer } from "ws";
import type { Assignment, InstanceReport } from "../../src/protocol/instance.ts";
import { type ClusterMessage, PROTOCOL_VERSION, type RootMessage, UPLINK_PATH } from "../../src/protocol/uplink.ts";

export class ScriptedRoot {
  readonly #http = createServer();
  readonly #server = new WebSocketServer({ server: this.#http, path: UPLINK_PATH, perMessageDeflate: false });
  readonly #assignments: Assignment[];
  readonly #blocks: string[];
  #socket: WebSocket | undefined;
  #revision = 0;
  /** That the cluster calls active. */
  activeWorkers = 0;
  onInstance: (report: InstanceReport) => void = () => {};

  constructor(assignments: readonly Assignment[], blocks: readonly string[]) {
    this.#assignments = [...assignments];
    this.#blocks = [...blocks];
  }

  async listen(): Promise<string> {
    this.#server.on("connection", (socket) => {
      socket.on("message", (data: Buffer) => this.#receive(socket, JSON.parse(data.toString()) as ClusterMessage));
      socket.on("close", () => {
        if (this.#socket === socket) this.activeWorkers = 0;
      });
    });
    await new Promise<void>((resolve) => this.#http.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  want(assignment: Assignment): void {
    this.#assignments.push(assignment);
    this.#desired(false, [assignment]);
  }

  close(): void {
    for (const socket of this.#server.clients) socket.terminate();
    this.#http.close();
  }

  #receive(socket: WebSocket, message: ClusterMessage): void {
    switch (message.type) {
      case "hello":
        this.#socket = socket;
        this.#send({ type: "welcome", protocol: PROTOCOL_VERSION, clusterId: "0".repeat(24) });
        this.#send({ type: "network", serviceRange: "10.30.0.0/16", blocks: this.#blocks });
        this.#desired(true, this.#assignments);
        break;
      case "report":
        if (message.aggregate) this.activeWorkers = message.aggregate.all.workers;
        for (const report of message.instances) this.onInstance(report);
        break;
      case "resync":
        this.#desired(true, this.#assignments);
        break;
      case "interest":
        this.#answer(message.add);
        break;
      default:
    }
  }

  /** It knows of no instances elsewhere. */
  #answer(keys: readonly string[]): void {
    const answers = keys.map((key) => ({ key, serviceIds: [] }));
    if (answers.length > 0) this.#send({ type: "routes", tables: [], answers, gone: [] });
  }

  #desired(full: boolean, assignments: readonly Assignment[]): void {
    this.#revision += 1;
    this.#send({ type: "desired", revision: this.#revision, full, assignments: [...assignments], removed: [] });
  }

  #send(message: RootMessage): void {
    this.#socket?.send(JSON.stringify(message));
  }
}
