import { createSocket } from "node:dgram";
import { PROBE_PORT } from "./rtt.ts";

/** Sends each address an empty datagram, so that the kernel finds out its MAC. */
export async function pokeNeighbours(addresses: readonly string[]): Promise<void> {
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  await Promise.all(
    addresses.map((address) => new Promise<void>((resolve) => socket.send("", PROBE_PORT, address, () => resolve()))),
  );
  socket.close();
}
