/** A listener that applications call as their first act: the moment it accepts is the moment they run. */
import { createServer, type Socket } from "node:net";
import { networkInterfaces } from "node:os";
import { eventually } from "../../test/support/lab-host.ts";

export interface Callbacks {
  /** argv for a container: calls once, then sleeps; ends at once on SIGTERM. `name` tells calls apart. */
  command(name: string): string[];
  /** When (performance.now) the call of `name` was accepted. */
  arrival(name: string, withinMs?: number): Promise<number>;
  count(prefix: string): number;
  close(): void;
}

export async function listenForCallbacks(): Promise<Callbacks> {
  const arrivals = new Map<string, number>();
  const counts: string[] = [];
  const server = createServer((socket: Socket) => {
    const at = performance.now();
    socket.on("error", () => socket.destroy());
    socket.once("data", (bytes) => {
      const name = /^GET \/(\S*)/.exec(bytes.toString())?.[1] ?? "";
      counts.push(name);
      if (!arrivals.has(name)) arrivals.set(name, at);
      socket.end("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  const { port } = server.address() as { port: number };
  const address = networkInterfaces().eth0?.find((entry) => entry.family === "IPv4")?.address ?? "127.0.0.1";
  const script = (name: string) =>
    `trap 'exit 0' TERM; /bin/busybox wget -q -O /dev/null http://${address}:${port}/${name}; /bin/busybox sleep 100000 & wait`;
  return {
    command: (name) => ["/bin/busybox", "sh", "-c", script(name)],
    async arrival(name, withinMs = 30_000) {
      const at = await eventually(() => arrivals.get(name), {
        withinMs,
        everyMs: 1,
        what: `the first request of ${name}`,
      });
      arrivals.delete(name);
      return at;
    },
    count: (prefix) => counts.filter((name) => name.startsWith(prefix)).length,
    close: () => server.close(),
  };
}
