/**
 * Runs on a host of a lab: listens for what applications of that host call, and prints `listening <port>`, then `<name> <ms>` for
 * each call. The time is of the kernel's monotonic clock, which all hosts of a lab share.
 */
import { createServer } from "node:net";
import { kernelMs } from "./kernel-clock.ts";

const server = createServer((socket) => {
  const at = kernelMs();
  socket.on("error", () => socket.destroy());
  socket.once("data", (bytes) => {
    const name = /^GET \/(\S+)/.exec(bytes.toString())?.[1];
    if (name) console.log(`${name} ${at}`);
    socket.end("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
});
server.listen(0, "0.0.0.0", () => console.log(`listening ${(server.address() as { port: number }).port}`));
