import { createSocket } from "node:dgram";

/** The address of ours that leads to `host`. Where that is this machine itself, the one that leads anywhere else, if any does. */
export async function ownAddress(host: string): Promise<string> {
  const address = await sourceAddress(host);
  if (address !== undefined && !isLoopback(address)) return address;
  // A documentation address (RFC 5737): connecting a UDP socket asks the routing table and sends nothing.
  return (await sourceAddress("198.51.100.1")) ?? address ?? "127.0.0.1";
}

/** @param host an address, without brackets, or a name */
export const isLoopback = (host: string): boolean =>
  host.startsWith("127.") || host === "::1" || host === "localhost" || host.endsWith(".localhost");

function sourceAddress(host: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
    const done = (address: string | undefined) => {
      socket.close();
      resolve(address);
    };
    socket.on("error", () => done(undefined));
    // A callback would be called where there is no way to it as well.
    socket.on("connect", () => done(socket.address().address));
    socket.connect(9, host);
  });
}
